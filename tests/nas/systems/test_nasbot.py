"""NASBOT against its paper: the modifiers, the acquisition and its evolution, and that the distance matters."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from grown_networks import loss, network, play, played, search
from scipy.integrate import quad
from scipy.stats import chisquare, norm, spearmanr

from katib_flow.history import Kind
from katib_flow.models import Topology
from katib_flow.models.presets import space_of
from katib_flow.nas import modifiers
from katib_flow.nas.distances.otmann import distances, network_of, shares
from katib_flow.nas.growth import Candidate, Grown
from katib_flow.nas.modifiers import modification
from katib_flow.nas.surrogate import Surrogate, fitted
from katib_flow.nas.systems import nasbot
from katib_flow.nas.systems.nasbot import STEPS, NasbotSettings, evolved, expected_improvement, mutant
from katib_flow.spec.sections import Architecture

START = Candidate(space_of(Architecture(space="chain", settings={"layers": [8, 16, 16, 16]})).initial)
LIMIT = 50_000


def modified(name: str, seed: int, of: Candidate = START) -> Candidate:
    """What a modifier makes of a network, the first time that it fits."""
    rng = np.random.default_rng(seed)
    edges = [edge for edge in of.topology.flat.live.edges if edge.key != "head"]
    while True:
        edits = getattr(modifiers, name)(of.topology, edges, rng)
        if (made := of.edited(edits, LIMIT)) is not None:
            return made


def layers(topology: Topology) -> Counter[Any]:
    return Counter((label.kind, label.family, label.kernel) for label in network_of(topology).labels)


@pytest.mark.parametrize("seed", range(4))
def test_modifiers_do_what_the_paper_says(seed):
    before = START.topology

    def widths(topology: Topology) -> list[int]:
        return [edge.params["c"] for edge in topology.flat.edges if "c" in edge.params]

    changes = [b - a for a, b in zip(widths(before), widths(modified("_one_width", seed).topology), strict=True)]
    (change,) = [(abs(c), w) for c, w in zip(changes, widths(before), strict=True) if c]
    assert change[0] == change[1] // 8
    many = [b - a for a, b in zip(widths(before), widths(modified("_many_widths", seed).topology), strict=True)]
    assert len({np.sign(change) for change in many if change}) == 1
    assert layers(modified("_removed_layer", seed).topology).total() == layers(before).total() - 1
    assert (layers(modified("_wedged_layer", seed).topology) - layers(before)).total() == 1
    swapped = layers(modified("_swapped_label", seed).topology)
    assert swapped.total() == layers(before).total()
    stacked = modified("_skip", seed).topology
    assert layers(stacked) - layers(before) <= Counter({("pool", "avg", 3): 1, ("pool", "avg", 7): 1})
    assert "concat" in stacked.flat.vertices.values()
    doubled = modified("_doubled_path", seed).topology
    more = layers(doubled) - layers(before)
    assert 1 <= more.total() <= 3
    assert set(more) <= set(layers(before))
    assert "concat" in doubled.flat.vertices.values()


def test_every_modifier_is_drawn():
    rng = np.random.default_rng(0)
    edits = [tuple(edit["edit"] for edit in modification(START.topology, rng)) for _ in range(100)]
    assert {each[0] for each in edits if each} == {"set", "append", "remove", "insert", "concat"}


def test_a_mutation_has_one_to_five_steps_by_their_probabilities(monkeypatch):
    rng, drawn = np.random.default_rng(0), Counter()
    for _ in range(2000):
        steps: list[int] = []
        monkeypatch.setattr(nasbot, "modification", lambda topology, rng, steps=steps: steps.append(1) or [])
        mutant(START, LIMIT, rng)
        drawn[len(steps)] += 1
    assert chisquare([drawn[1 + at] for at in range(5)], [2000 * share for share in STEPS]).pvalue > 0.001


def test_random_mutants_build_run_and_learn():
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    rng, candidate = np.random.default_rng(1), START
    for number in range(12):
        candidate = mutant(START if number % 6 == 0 else candidate, LIMIT, rng) or candidate
        built = build(candidate.topology, seed=0)
        out = built(torch.rand(2, 1, 8, 8))
        assert out.shape == (2, 10)
        out.sum().backward()
        assert sum(each.numel() for each in built.parameters()) == candidate.topology.parameters


def test_the_improvement_is_that_of_the_integral(monkeypatch):
    grown = Grown.from_ask(ask_of("nasbot"))
    costs = np.linspace(-1, 1, len(grown.evaluated))
    surrogates: list[Surrogate] = []
    monkeypatch.setattr(nasbot, "fitted", lambda *given: surrogates.append(fitted(*given)) or surrogates[-1])
    settings = NasbotSettings()
    improvement, of_evaluated = expected_improvement(grown.evaluated, costs, [], settings)
    np.testing.assert_allclose(improvement(grown.evaluated), of_evaluated)
    new = [modified("_wedged_layer", seed) for seed in range(3)]
    known, others = ([network_of(each.topology) for each in some] for some in (grown.evaluated, new))
    plain = distances(known, others, settings.structure)
    mean, variance = surrogates[0].posterior([plain, shares(plain, known, others) ** 2])
    for m, v, found in zip(mean, variance, improvement(new), strict=True):
        density = norm(m, np.sqrt(v)).pdf
        expected = quad(lambda x, density=density: (costs.min() - x) * density(x), m - 10 * np.sqrt(v), costs.min())[0]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-9)


def ask_of(name: str) -> Any:
    from katib_flow.algorithms.registry import Ask

    return Ask(search(name), played(name), range(10, 11), NasbotSettings())


def test_a_network_whose_layers_were_all_removed_is_one_of_many():
    bare = START
    for key in ("conv1", "conv2", "conv3", "conv4", "pool1"):
        bare = bare.edited([{"edit": "remove", "edge": key}], LIMIT) or bare
    assert network_of(bare.topology).mass == 0
    _, values = expected_improvement([START, bare], np.array([0.0, 1.0]), [bare], NasbotSettings())
    assert np.isfinite(values).all()


def test_evolution_climbs_the_acquisition():
    grown = Grown(START, [START], np.zeros(1), [], {START.topology.hash})
    acquisition: Any = lambda some: np.array([float(each.topology.parameters) for each in some])  # noqa: E731
    values = acquisition([START])
    found = evolved(grown, [START], values, acquisition, NasbotSettings(), np.random.default_rng(0))
    assert found is not None
    assert found.topology.parameters > 2 * START.topology.parameters
    assert found.topology.hash not in grown.tried


def test_parents_are_drawn_by_their_acquisition(monkeypatch):
    """With values 0 and 1, whose deviation is a half, the second has exp(4) times the probability of the first."""
    other = modified("_wedged_layer", 0)
    drawn: Counter[str] = Counter()
    monkeypatch.setattr(nasbot, "mutant", lambda candidate, *rest: drawn.update([candidate.topology.hash]))
    grown = Grown(START, [START, other], np.zeros(2), [], set())
    evolved(
        grown,
        [START, other],
        np.array([0.0, 1.0]),
        lambda some: np.zeros(0),
        NasbotSettings(),
        np.random.default_rng(0),
    )
    assert drawn[START.topology.hash] / drawn.total() == pytest.approx(1 / (1 + np.exp(4)), abs=0.012)


def test_a_network_that_is_being_tried_promises_less():
    tried = modified("_wedged_layer", 1)
    known, costs = [START, modified("_one_width", 0), modified("_removed_layer", 0)], np.array([0.0, 0.5, -0.5])
    before, after = (
        expected_improvement(known, costs, pending, NasbotSettings())[0]([tried])[0] for pending in ([], [tried])
    )
    assert after < 0.7 * before


def test_every_network_is_trained_from_scratch_and_descends_from_what_was_tried():
    for trial in played("nasbot"):
        topology = network(trial.suggestion)
        assert (trial.suggestion.parent, topology.weights) == (None, "fresh")
        made_of = trial.suggestion.origin.parents
        assert trial.suggestion.origin.kind is (Kind.MODIFY if made_of else Kind.GENERATE)
        assert bool(made_of) == bool(topology.edits) == (trial.index >= 4)


def test_the_distance_tells_what_a_network_will_come_to_and_a_shuffled_one_does_not():
    rng, pool = np.random.default_rng(2), [START]
    while len(pool) < 60:
        child = mutant(pool[int(rng.integers(len(pool)))], LIMIT, rng)
        pool += [] if child is None else [child]
    networks = [network_of(each.topology) for each in pool]
    outputs = np.array([loss(each.topology) for each in pool])
    d = distances(networks, networks, (0.2,))
    shuffle = rng.permutation(40)

    def told(known: Any) -> float:
        surrogate = fitted([known[:, :40, :40]], (outputs[:40] - outputs[:40].mean()) / outputs[:40].std())
        return float(spearmanr(surrogate.posterior([known[:, :40, 40:]])[0], outputs[40:]).statistic)

    shuffled = d.copy()
    shuffled[:, :40] = d[:, shuffle]
    assert told(d) > 0.6
    assert told(shuffled) < told(d) - 0.3


def test_a_search_of_two_parts_is_that_of_one():
    made = search("nasbot")
    assert play(made, 10, history=play(made, 6)) == played("nasbot")
