"""Large-scale evolution: who dies, who begins, what a mutation changes and what its child inherits."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from kit import spec
from landscape import shuffled
from scipy.stats import chisquare, kstest

from katib_flow.algorithms.registry import Ask, check_algorithm
from katib_flow.history import History, Kind, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.morphisms import inherited, modify
from katib_flow.nas.growth import Candidate
from katib_flow.nas.mutations import rescaled
from katib_flow.nas.systems.large_scale_evolution import (
    KINDS,
    EvolutionSettings,
    alive,
    mutated,
    with_another_parameter,
)
from katib_flow.spaces import architectures, search_space
from katib_flow.spec import Experiment

LR = {"type": "float", "min": 1e-4, "max": 1.0, "scale": "log"}


def search(layers: Any = (4, 4), seed: int = 0, parameters: Any = None, **settings: Any) -> Experiment:
    algorithm = {"name": "large-scale-evolution", "seed": seed, "settings": {"population": 6, **settings}}
    objective = {"metric": "loss", "direction": "minimize"}
    architecture = {"space": "chain", "settings": {"layers": list(layers)}}
    limits = {"max_trials": 5000}
    parameters = {"lr": LR} if parameters is None else parameters
    data = spec(objective=objective, architecture=architecture, algorithm=algorithm, limits=limits)
    return Experiment.parse({**data, "parameters": parameters})


def asked(made: Experiment, history: History | None = None) -> Ask[EvolutionSettings]:
    history = history or History()
    settings = EvolutionSettings.model_validate(made.algorithm.settings)
    return Ask(made, history, range(history.next_index, history.next_index + 1), settings)


def ended(suggestion: Suggestion, loss: float | None) -> Trial:
    return Trial(suggestion, State.FAILED) if loss is None else Trial(suggestion, State.SUCCEEDED, {"loss": loss})


def convolutions(suggestion: Suggestion) -> int:
    return sum(edge.op == "conv" for edge in Topology.parse(suggestion.topology).flat.live.edges)


def play(made: Experiment, most: int, loss: Any, batch: int = 2) -> History:
    history = History()
    while len(history) < most:
        history = history.replaced(ended(each, loss(each)) for each in suggest(made, history, batch))
    return history


def crowd(count: int) -> History:
    """So many trials that were trained, each better than the one before it."""
    first = suggest(search(population=count), History(), count)
    return History(tuple(ended(each, float(count - each.index)) for each in first))


def killed(suggestion: Suggestion) -> int | None:
    found = suggestion.info.get("killed")
    return None if found is None else int(str(found))


def test_of_a_pair_the_worse_dies_and_the_better_has_the_child() -> None:
    made, history = search(population=8), crowd(8)
    children = [suggest(made, history, 1, start=8 + number)[0] for number in range(1400)]
    pairs = Counter((killed(child), child.origin.parents[0]) for child in children)
    assert set(pairs) == {(worse, better) for better in range(8) for worse in range(better)}
    assert chisquare(list(pairs.values())).pvalue > 0.001  # each of the 28 pairs as often: 50


def test_who_begins_is_the_network_to_start_from_and_mutants_of_it() -> None:
    made = search(population=12)
    space = architectures(made)
    assert space is not None
    start = space.initial.hash
    begun = suggest(made, History(), 20)
    hashes = [Topology.parse(each.topology).hash for each in begun]
    assert len(begun) == 12
    assert hashes[0] == start
    assert len(set(hashes)) > 4
    assert {(each.parent, each.origin.kind) for each in begun} == {(None, Kind.GENERATE)}
    assert len({each.assignment["lr"] for each in begun}) == 12


def test_those_alive_and_those_being_trained_are_as_many_all_along() -> None:
    """Trials end in another order than they begin in, and one in four fails."""
    made, rng = search(), np.random.default_rng(0)
    history, running = History(), list[Suggestion]()
    for _ in range(150):
        fresh = suggest(made, history, 3 - len(running))
        history = history.replaced(Trial(each, State.RUNNING) for each in fresh)
        running += fresh
        assert len(alive(asked(made, history))) + len(running) == min(6, len(history))
        over = running.pop(int(rng.integers(len(running))))
        history = history.replaced([ended(over, None if over.index % 4 == 3 else float(rng.random()))])
    assert len(history) > 100


def test_the_child_of_a_trial_that_fails_takes_nobodys_place() -> None:
    made, history = search(), crowd(6)
    (child,) = suggest(made, history, 1)
    for state, lives in [(State.RUNNING, False), (State.SUCCEEDED, False), (State.FAILED, True), (State.KILLED, True)]:
        observations = {"loss": 0.1} if state is State.SUCCEEDED else {}
        living = alive(asked(made, history.replaced([Trial(child, state, observations)])))
        assert (killed(child) in {trial.index for trial in living}) == lives


def test_pairs_of_one_ask_have_their_victims_apart_and_it_waits_when_one_is_left() -> None:
    made, history = search(), crowd(6)
    children = suggest(made, history, 9)
    assert len(children) == 5
    assert len({killed(child) for child in children}) == 5
    assert 5 not in {killed(child) for child in children}  # the best is never the worse of two
    running = history.replaced(Trial(child, State.RUNNING) for child in children)
    assert suggest(made, running, 3) == []
    assert len(suggest(made, running.replaced([ended(children[0], 0.5)]), 3)) == 1


def test_a_number_changes_by_a_factor_of_up_to_two_evenly_on_a_logarithmic_scale() -> None:
    rng = np.random.default_rng(0)
    ratios = np.log([rescaled(37.0, rng) / 37.0 for _ in range(2000)])
    assert kstest(ratios, "uniform", args=(-np.log(2), 2 * np.log(2))).pvalue > 0.001
    made = search()
    rates = [float(str(with_another_parameter(search_space(made), {"lr": 0.01}, rng)["lr"])) for _ in range(2000)]
    assert kstest(np.log(rates) - np.log(0.01), "uniform", args=(-np.log(2), 2 * np.log(2))).pvalue > 0.001


def test_a_number_stays_within_its_range_and_another_parameter_gets_another_value() -> None:
    parameters = {
        "lr": LR,
        "batch": {"type": "int", "min": 8, "max": 64, "step": 8},
        "kind": {"type": "categorical", "values": ["a", "b", "c"]},
    }
    space, rng = search_space(search(parameters=parameters)), np.random.default_rng(0)
    old: Any = {"lr": 0.9, "batch": 16, "kind": "a"}
    altered = [with_another_parameter(space, old, rng) for _ in range(300)]
    assert all(each in space for each in altered)
    assert {each["batch"] for each in altered} == {8, 16, 24, 32}
    assert max(float(str(each["lr"])) for each in altered) == 1.0
    assert {each["kind"] for each in altered} == {"a", "b", "c"}
    assert all(sum(each[name] != old[name] for name in old) <= 1 for each in altered)


GROWN = [
    {"edit": "insert", "edge": "conv1"},
    {"edit": "append", "vertices": {"2": "primary"}, "edges": [{"id": "s", "src": "x", "dst": "2", "op": "identity"}]},
]


def mutants(count: int, layers: Any = (4, 4)) -> tuple[Topology, list[tuple[Candidate, Any, str]]]:
    """A network that has everything that a mutation needs, and mutants of it."""
    made = search(layers)
    space = architectures(made)
    assert space is not None
    parent = modify(space.initial, GROWN)
    candidate, ask, rng = Candidate(parent), asked(made), np.random.default_rng(0)
    return parent, [mutated(ask, candidate, {"lr": 0.1}, rng) for _ in range(count)]


def kind_of(parent: Topology, mutant: tuple[Candidate, Any, str]) -> str:
    """Which mutation it was, by what came of it."""
    child, assignment, weights = mutant
    edits = [dict(edit) for edit in child.edits]
    match [edit["edit"] for edit in edits]:
        case []:
            same = "reset-weights" if weights == "fresh" else "identity"
            return same if assignment == {"lr": 0.1} else "alter-parameter"
        case ["set"]:
            old = next(edge for edge in parent.flat.live.edges if edge.key == edits[0]["edge"])
            now = edits[0]["params"]
            (name,) = [name for name in ("c", "k", "s") if now.get(name) != old.params.get(name)]
            return {"c": "alter-channels", "k": "alter-filter-size", "s": "alter-stride"}[name]
        case names:
            kinds = {"insert": "insert-one-to-one", "insert set": "insert-convolution", "append": "add-skip"}
            return {**kinds, "remove": "remove-convolution", "prune": "remove-skip"}[" ".join(names)]


def test_each_mutation_is_drawn_as_often() -> None:
    """Where a mutation changes nothing, as a filter of the size it had, another one is drawn: none comes up less."""
    parent, children = mutants(1100)
    counts = Counter(kind_of(parent, each) for each in children)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 55  # 100 each; 5 standard deviations


def test_a_mutation_is_one_change_of_the_size_that_the_paper_has() -> None:
    parent, children = mutants(600)
    edges = {edge.key: edge for edge in parent.flat.live.edges}
    strides, sides, widths, inserted = set[Any](), set[Any](), set[Any](), set[Any]()
    for mutant in children:
        kind, child = kind_of(parent, mutant), mutant[0]
        params = dict(child.edits[-1].get("params", {})) if child.edits else {}
        if kind == "alter-stride":
            strides.add(params["s"])
        elif kind == "alter-channels":
            widths.add(params["c"])
        elif kind == "alter-filter-size":
            assert sum(side != 3 for side in params["k"]) <= 1
            sides |= set(params["k"])
        elif kind == "insert-convolution":
            inserted.add((params["k"], params["s"], params["order"]))
            assert params["c"] == parent.shapes[edges[child.edits[0]["edge"]].dst][0]
    assert strides == {2}  # of 1, half of which is none
    assert sides == {1, 3, 5}
    assert widths <= set(range(2, 9))
    assert len(widths) > 4
    assert inserted == {(3, stride, order) for stride in (1, 2) for order in ("conv-bn-relu", "conv")}


def test_a_skip_connection_leads_to_a_later_vertex_and_leaves_the_primary_edge_first() -> None:
    parent, children = mutants(600)
    skips = [each[0] for each in children if kind_of(parent, each) == "add-skip"]
    for child in skips:
        edge = child.edits[0]["edges"][0]
        arriving = child.topology.flat.live.incoming[edge["dst"]]
        assert arriving[0].key == parent.flat.live.incoming[edge["dst"]][0].key
        assert child.topology.flat.vertices[edge["dst"]] == "primary"
        assert child.topology.shapes[edge["dst"]] == parent.shapes[edge["dst"]]
    assert len({(child.edits[0]["edges"][0]["src"], child.edits[0]["edges"][0]["dst"]) for child in skips}) > 4


def test_layers_of_equal_shape_are_inherited_whatever_comes_before_them() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build, weights_of

    parent, children = mutants(70)
    weights = weights_of(build(parent, seed=1))
    kinds = Counter[str]()
    for mutant in children:
        kind, child = kind_of(parent, mutant), mutant[0].topology.model_copy(update={"weights": mutant[2]})
        taken = inherited(parent, weights, child)
        shapes = {name: tuple(tensor.shape) for name, tensor in build(child, seed=2).state_dict().items()}
        alike = {name for name, tensor in weights.items() if tensor.shape == shapes.get(name)}
        assert set(taken) == (set() if kind == "reset-weights" else alike)
        assert all(np.array_equal(taken[name], weights[name]) for name in taken)
        changed = {str(edge).replace(".", "·") for edit in mutant[0].edits for edge in [edit.get("edge", "")]}
        left = {name.split(".")[1] for name in alike ^ weights.keys()} & {name.split(".")[1] for name in weights}
        if kind in (
            "insert-convolution",
            "insert-one-to-one",
            "add-skip",
            "remove-skip",
            "identity",
            "alter-parameter",
        ):
            assert not left  # nothing of what there was has another shape
        if kind in ("alter-filter-size", "alter-stride"):
            assert left <= changed
        kinds[kind] += 1
    assert set(kinds) == set(KINDS)
    assert torch.is_grad_enabled()


def test_every_mutant_runs_forward_and_backward() -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    made = search(layers=[], population=4)
    history = play(made, 40, lambda each: -convolutions(each))
    for trial in history[-12:]:
        network = build(Topology.parse(trial.suggestion.topology), seed=0)
        logits = network(torch.rand(3, 1, 8, 8))
        logits.sum().backward()
        assert logits.shape == (3, 10)
        assert torch.isfinite(logits).all()


def median_of_those_alive(made: Experiment, history: History) -> float:
    return float(np.median([convolutions(trial.suggestion) for trial in alive(asked(made, history))]))


def test_selection_raises_the_population_and_chance_does_not() -> None:
    """It begins with a linear network; fitness is the number of convolutions, or has nothing to do with it."""
    by_selection, by_chance = list[float](), list[float]()
    for seed in range(3):
        made, rng = search(layers=[], seed=seed), np.random.default_rng(seed)
        by_selection.append(median_of_those_alive(made, play(made, 80, lambda each: -float(convolutions(each)))))
        by_chance.append(median_of_those_alive(made, play(made, 80, lambda each: float(rng.random()))))  # noqa: B023
    assert min(by_selection) > max(by_chance)
    assert min(by_selection) >= 3


def test_results_of_others_lead_to_other_children() -> None:
    made, history = search(), crowd(6)
    one, other = (suggest(made, each, 4) for each in (history, shuffled(history)))
    assert [(killed(each), each.origin.parents) for each in one] != [
        (killed(each), each.origin.parents) for each in other
    ]


def test_a_child_has_its_parents_parameters_and_lineage() -> None:
    made, history = search(), crowd(6)
    for number in range(60):
        (child,) = suggest(made, history, 1, start=6 + number)
        parent = history[child.origin.parents[0]]
        network = Topology.parse(child.topology)
        assert child.origin.kind is Kind.MODIFY
        assert (child.parent, network.weights) in [(parent.index, "shape"), (None, "fresh")]
        if network.edits:
            assert child.assignment == parent.assignment
            assert modify(Topology.parse(parent.suggestion.topology), network.edits).hash == network.hash


def test_no_network_has_more_weights_than_allowed() -> None:
    made = search(max_parameters=400)
    history = play(made, 60, lambda each: -float(Topology.parse(each.topology).parameters))
    sizes = [Topology.parse(trial.suggestion.topology).parameters for trial in history]
    assert sizes[0] < max(sizes) <= 400
    history = play(search(), 60, lambda each: -float(Topology.parse(each.topology).parameters))
    assert max(Topology.parse(trial.suggestion.topology).parameters for trial in history) > 800


def test_it_has_the_papers_population_of_a_thousand_or_one_for_two_cores() -> None:
    small, paper = (EvolutionSettings.model_validate({"preset": preset}).model_dump() for preset in ("small", "paper"))
    assert small == {"preset": "small", "population": 12, "max_parameters": 50_000}
    assert paper == {"preset": "paper", "population": 1000, "max_parameters": 33_554_432}


@pytest.mark.parametrize(
    ("architecture", "settings", "where"),
    [("cell", {}, "architecture.space"), ("chain", {"max_parameters": 9}, "algorithm.settings.max_parameters")],
)
def test_what_it_cannot_start_from_is_refused(architecture: str, settings: Any, where: str) -> None:
    algorithm = {"name": "large-scale-evolution", "settings": settings}
    (problem,) = check_algorithm(Experiment.parse(spec(architecture=architecture, algorithm=algorithm)))
    assert problem.where == where


def test_a_linear_network_will_do_and_for_the_systems_that_widen_layers_will_not() -> None:
    assert not list(check_algorithm(search(layers=[])))
    bare = {"space": "chain", "settings": {"layers": []}}
    for name in ("nasbot", "network-morphism"):
        (problem,) = check_algorithm(Experiment.parse(spec(architecture=bare, algorithm=name)))
        assert "with a convolution" in problem.need


def test_without_other_parameters_the_network_alone_evolves() -> None:
    history = play(search(parameters={}), 40, lambda each: -convolutions(each))
    assert {tuple(trial.assignment) for trial in history} == {()}
    assert len({Topology.parse(trial.suggestion.topology).hash for trial in history}) > 10
