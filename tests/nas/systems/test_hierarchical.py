"""Evolution of motifs: who is mutated, where, how it begins, and whether it beats chance."""

from collections import Counter
from math import comb

import numpy as np
import pytest
from kit import spec
from landscape import best, every_loss, play, search, shuffled
from scipy.stats import binomtest, chisquare

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.history import History, Kind, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.nas.systems.hierarchical import entries, identity_of, levels, mutated_entry
from katib_flow.spaces import architectures, search_space
from katib_flow.spec import Experiment

MOTIFS = {"space": "hierarchical", "settings": {"motifs": 2, "motif_nodes": 3, "nodes": 3}}
CHAIN = {"0>1": "skip", "0>2": "none", "1>2": "skip"}


def motifs(**settings: object) -> Experiment:
    algorithm = {"name": "hierarchical", "settings": settings}
    return Experiment.parse(spec(architecture=MOTIFS, algorithm=algorithm, limits={"max_trials": 5000}))


def test_an_entry_of_a_level_is_a_motif_of_the_level_below() -> None:
    space = architectures(motifs())
    assert space is not None
    assert levels(space) == {
        2: {name: {"1": [f"{name}.0>1"], "2": [f"{name}.0>2", f"{name}.1>2"]} for name in ("m0", "m1")},
        3: {"cell": {"1": ["cell.0>1"], "2": ["cell.0>2", "cell.1>2"]}},
    }


def test_the_first_genotype_is_exactly_the_identity() -> None:
    space = architectures(motifs())
    assert space is not None
    network = space.topology(identity_of(space, levels(space)))
    plain = network.to_dict()
    edges = plain["graphs"]["net"]["edges"]
    plain["graphs"] = {"net": {**plain["graphs"]["net"], "edges": edges}}
    for edge in edges:
        if edge["op"] == "@cell":
            edge["op"], edge["params"] = "skip", {}
    assert network.hash == Topology.parse(plain).hash


def test_every_motif_of_the_first_genotype_is_a_chain_of_identities_or_of_what_comes_last() -> None:
    space = architectures(motifs())
    assert space is not None
    chain = {f"{name}.{edge}": op for name in ("m0", "m1") for edge, op in CHAIN.items()}
    assert identity_of(space, levels(space)) == {**chain, "cell.0>1": "@m0", "cell.0>2": "@none", "cell.1>2": "@m0"}
    cell = {"space": "cell", "settings": {"nodes": 3, "operations": ["conv1", "conv3", "conv5"]}}
    without = architectures(Experiment.parse(spec(architecture=cell, algorithm="hierarchical")))
    assert without is not None
    assert identity_of(without, levels(without)) == {"0>1": "conv5", "0>2": "conv1", "1>2": "conv5"}


def test_a_mutation_changes_one_entry_wherever_its_motif_is_used() -> None:
    made = motifs()
    space = architectures(made)
    assert space is not None
    old = {**identity_of(space, levels(space)), "cell.0>1": "@m0", "cell.0>2": "@m0", "cell.1>2": "@m1"}
    new = search_space(made).mutate({"lr": 0.1, **old}, np.random.default_rng(0), "m0.0>2")
    assert {name for name in old if new[name] != old[name]} == {"m0.0>2"}
    keys = [{edge.key: edge.op for edge in space.topology(decisions).flat.edges} for decisions in (old, new)]
    changed = {key for key in keys[0].keys() | keys[1].keys() if keys[0].get(key) != keys[1].get(key)}
    uses = sum(edge.op == "@cell" for edge in space.topology(old).graphs["net"].edges)
    assert len(changed) == 2 * uses


def test_a_mutation_draws_a_level_then_a_motif_then_a_vertex_then_an_edge() -> None:
    space = architectures(motifs())
    assert space is not None
    rng, genotype = np.random.default_rng(0), levels(space)
    counts = Counter(mutated_entry(genotype, rng) for _ in range(4800))
    expected = {"cell.0>1": 1 / 4, "cell.0>2": 1 / 8, "cell.1>2": 1 / 8}
    for name in ("m0", "m1"):
        expected |= {f"{name}.0>1": 1 / 8, f"{name}.0>2": 1 / 16, f"{name}.1>2": 1 / 16}
    assert set(counts) == set(expected) == set(entries(genotype))
    assert chisquare([counts[slot] for slot in expected], [4800 * share for share in expected.values()]).pvalue > 0.001


def test_it_begins_with_mutants_of_the_identity() -> None:
    made = motifs(mutations=1, population=12)
    space = architectures(made)
    assert space is not None
    identity = identity_of(space, levels(space))
    begun = suggest(made, History(), 12)
    assert [suggestion.origin.kind for suggestion in begun] == [Kind.GENERATE] * 12
    differences = [sum(each.assignment[slot] != value for slot, value in identity.items()) for each in begun[:6]]
    assert differences == [1] * 6
    far = suggest(motifs(mutations=1000), History(), 6)
    assert np.mean([sum(each.assignment[slot] != value for slot, value in identity.items()) for each in far]) > 4


def evaluated(suggestions: list[Suggestion]) -> History:
    return History(tuple(Trial(each, State.SUCCEEDED, {"accuracy": 0.5}) for each in suggestions))


def test_the_whole_population_begins_before_anyone_is_mutated() -> None:
    made = motifs(mutations=3, population=6)
    begun = suggest(made, History(), 3)
    assert len({each.assignment["lr"] for each in begun}) == 3
    later = suggest(made, evaluated(begun), 4)
    assert [each.origin.kind for each in later] == [*[Kind.GENERATE] * 3, Kind.MODIFY]


def test_other_parameters_are_a_level_of_their_own() -> None:
    """A cell has one level of operations, so half of the mutations change the learning rate, and nothing else."""
    cell = {"space": "cell", "settings": {"operations": ["conv1", "conv3", "conv5"]}}
    algorithm = {"name": "hierarchical", "settings": {"population": 1}}
    made = Experiment.parse(spec(architecture=cell, algorithm=algorithm, limits={"max_trials": 5000}))
    history = evaluated(suggest(made, History(), 1))
    (parent,) = history
    mutants = [suggest(made, history, 1, start=1 + number)[0].assignment for number in range(600)]
    changes = [[name for name in mutant if mutant[name] != parent.assignment[name]] for mutant in mutants]
    assert {len(names) for names in changes} == {1}
    assert binomtest(changes.count(["lr"]), 600, 1 / 2).pvalue > 0.001


def test_a_tournament_of_a_part_of_one_is_won_by_anyone() -> None:
    made = motifs(population=1, tournament=0.05)
    history = evaluated(suggest(motifs(population=10), History(), 10))
    parents = Counter(suggest(made, history, 1, start=10 + number)[0].origin.parents for number in range(400))
    assert len(parents) == 10
    assert chisquare(list(parents.values())).pvalue > 0.001


def test_where_the_space_is_used_up_there_are_fewer() -> None:
    cell = {"space": "cell", "settings": {"nodes": 2, "operations": ["skip", "conv3", "avg3"]}}
    algorithm = {"name": "hierarchical", "settings": {"population": 2, "mutations": 5}}
    made = Experiment.parse(spec(architecture=cell, parameters={}, algorithm=algorithm, limits={"max_trials": 99}))
    assert len(suggest(made, History(), 9)) == 3
    assert len(suggest(made, evaluated(suggest(made, History(), 2)), 9)) == 1


def test_the_best_of_a_tournament_is_mutated_however_old_it_is() -> None:
    """A tournament of k of n, without replacement, picks rank r with C(n - r, k - 1) / C(n, k)."""
    made = search("hierarchical", population=1, tournament=0.3)
    everything = list(search_space(made).enumerate())
    n, k, asked = 10, 3, 600
    history = History(
        tuple(Trial(Suggestion(i, everything[37 * i]), State.SUCCEEDED, {"loss": float(i)}) for i in range(n))
    )
    suggestions = [suggest(made, history, 1, start=n + number)[0] for number in range(asked)]
    parents = Counter(suggestion.origin.parents[0] for suggestion in suggestions)
    assert {suggestion.origin.kind for suggestion in suggestions} == {Kind.MODIFY}
    expected = [asked * comb(n - 1 - rank, k - 1) / comb(n, k) for rank in range(n - k + 1)]
    assert set(parents) <= set(range(n - k + 1))
    assert chisquare([parents[rank] for rank in range(n - k + 1)], expected).pvalue > 0.001


def test_a_tournament_of_all_is_won_by_the_best() -> None:
    made = search("hierarchical", population=1, tournament=1.0)
    everything = list(search_space(made).enumerate())
    history = History(
        tuple(Trial(Suggestion(i, everything[37 * i]), State.SUCCEEDED, {"loss": float(i != 3)}) for i in range(40))
    )
    assert {suggestion.origin.parents for suggestion in suggest(made, history, 8)} == {(3,)}


def test_results_of_others_lead_to_other_mutants() -> None:
    made = search("hierarchical", tournament=0.3)
    history = play(made, 40)
    assert [each.assignment for each in suggest(made, history, 20)] != [
        each.assignment for each in suggest(made, shuffled(history), 20)
    ]


def test_it_beats_random_search_at_equal_cost() -> None:
    losses = every_loss()
    rank = np.arange(1, len(losses) + 1)
    expected = float(np.diff(1 - (1 - rank / len(losses)) ** 100, prepend=0.0) @ losses)
    assert np.mean([best(play(search("hierarchical", seed, mutations=50), 100)) for seed in range(6)]) < expected


@pytest.mark.parametrize("space", ["pairs", "macro", "chain"])
def test_a_space_of_other_slots_is_refused(space: str) -> None:
    made = Experiment.parse(spec(architecture=space, algorithm="hierarchical", limits={"max_trials": 9}))
    (problem,) = check_algorithm(made)
    assert (problem.where, problem.found) == ("architecture.space", space)
    assert "such as hierarchical" in problem.need


def test_what_is_stacked_is_brought_back_to_the_channels_of_the_motif_and_trains() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    settings = {**MOTIFS["settings"], "merge": "concat"}
    made = Experiment.parse(spec(architecture={**MOTIFS, "settings": settings}, algorithm="hierarchical"))
    space, stacked = architectures(made), 0
    assert space is not None
    for each in suggest(made, History(), 10):
        network = space.topology(each.assignment)
        flat = network.flat.live
        stacks = [v for v, merge in flat.vertices.items() if merge == "concat" and len(flat.incoming[v]) > 1]
        for vertex in stacks:
            (reader,) = flat.outgoing[vertex]
            arriving = [network.shapes[edge.src][0] for edge in flat.incoming[vertex]]
            assert network.shapes[vertex][0] == sum(arriving) > network.shapes[reader.dst][0] == arriving[0]
        stacked += len(stacks)
        logits = build(network, seed=0)(torch.rand(2, *network.input.shape))
        assert logits.shape == (2, network.output.classes)
        if stacks:
            logits.sum().backward()
    assert stacked > 10
