"""Hill climbing by morphisms: who a step's children are, who is next, and that growing changes nothing at first."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kit import spec

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.history import History, Kind, Origin, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.morphisms import morph, morphisms
from katib_flow.models.presets import space_of
from katib_flow.nas.growth import Candidate
from katib_flow.nas.systems.nash import grown
from katib_flow.spec import Experiment
from katib_flow.spec.sections import Architecture

CHAIN = space_of(Architecture(space="chain", settings={"layers": [4, 4]})).initial
PARENT, MANY = Candidate(CHAIN), 1 << 25


def search(settings: Any = None, layers: Any = (4, 4), **sections: Any) -> Experiment:
    algorithm = {"name": "nash", "settings": {"children": 3, "morphisms": 2, "steps": 2, **(settings or {})}}
    architecture = {"space": "chain", "settings": {"layers": list(layers)}}
    limits = {"max_trials": 100, "parallel_trials": 8}
    return Experiment.parse(spec(architecture=architecture, algorithm=algorithm, limits=limits, **sections))


def ended(suggestion: Suggestion, accuracy: float | None) -> Trial:
    if accuracy is None:
        return Trial(suggestion, State.FAILED)
    return Trial(suggestion, State.SUCCEEDED, {"accuracy": accuracy})


def play(made: Experiment, accuracies: list[float | None], most: int = 100) -> History:
    history = History()
    while len(history) < min(most, len(accuracies)) and (fresh := suggest(made, history, 8)):
        history = history.replaced(ended(each, accuracies[each.index]) for each in fresh)
    return history


def networks(history: History) -> list[Topology]:
    return [Topology.parse(trial.suggestion.topology) for trial in history]


def test_a_step_is_the_current_network_and_children_of_it_that_are_so_many_morphisms_away() -> None:
    made = search()
    history = play(made, [0.5] * 4)
    start, same, *others = networks(history)
    assert start.hash == same.hash == CHAIN.hash
    assert [len(each.edits) for each in (same, *others)] == [0, 2, 2]
    assert [trial.suggestion.info for trial in history] == [{"step": 0}, *[{"step": 1}] * 3]
    assert len({each.hash for each in (start, *others)}) == 3
    assert {edit["edit"] for each in others for edit in each.edits} <= set(morphisms())
    assert [trial.suggestion.parent for trial in history] == [None, 0, 0, 0]
    assert [trial.suggestion.origin for trial in history] == [Origin(), *[Origin(Kind.MODIFY, (0,))] * 3]


@pytest.mark.parametrize(
    ("accuracies", "current"),
    [
        ([0.5, 0.6, 0.7, 0.8], 3),
        ([0.5, 0.6, 0.9, 0.8], 2),
        ([0.5, 0.6, 0.4, 0.4], 1),
        ([0.5, 0.4, 0.4, 0.4], 0),
        ([0.5, None, None, None], 0),
    ],
)
def test_the_best_of_children_and_parent_is_next(accuracies: list[float | None], current: int) -> None:
    made = search()
    history = play(made, accuracies)
    fresh = suggest(made, history, 8)
    assert [each.parent for each in fresh] == [current] * 3
    first = Topology.parse(fresh[0].topology)
    assert (first.hash, first.edits) == (networks(history)[current].hash, ())
    assert suggest(made, history.replaced(ended(each, 0.1) for each in fresh), 8) == []  # two steps, and no budget


def test_the_next_step_waits_until_all_of_this_one_have_ended() -> None:
    made = search()
    (start,) = suggest(made, History(), 8)
    assert suggest(made, History((Trial(start, State.RUNNING),)), 8) == []
    history = History((ended(start, 0.5),))
    children = suggest(made, history, 8)
    assert len(children) == 3
    first = history.replaced([ended(children[0], 0.6)])
    later = suggest(made, first, 8)
    assert [len(Topology.parse(each.topology).edits) for each in later] == [2, 2]  # the current network had its turn
    for state in (State.RUNNING, State.PENDING, State.KILLED):
        waiting = first.replaced([ended(children[1], 0.6), Trial(children[2], state)])
        assert suggest(made, waiting, 8) == []


def test_the_children_of_all_steps_are_different_networks_while_there_are_any() -> None:
    """Of one convolution there are few morphisms, so that a draw is often what another one was."""
    history = play(search({"children": 5, "morphisms": 1, "steps": 2}, layers=[4]), [0.9] + [0.5] * 10)
    hashes = [network.hash for network in networks(history)]
    assert hashes[0] == hashes[1] == hashes[6]
    assert (len(hashes), len(set(hashes))) == (11, 9)


def test_a_trial_that_says_no_step_is_a_start() -> None:
    made = search()
    (start,) = suggest(made, History(), 8)
    named = replace(start, info={})
    assert suggest(made, History((ended(named, 0.5),)), 8) == suggest(made, History((ended(start, 0.5),)), 8)


def test_a_start_that_failed_is_tried_again() -> None:
    made = search()
    (start,) = suggest(made, History(), 8)
    (again,) = suggest(made, History((ended(start, None),)), 8)
    assert (again.index, again.topology, again.parent) == (1, start.topology, None)
    assert again.assignment != start.assignment  # which may be why it failed
    children = suggest(made, History((ended(start, None), ended(again, 0.3))), 8)
    assert [each.parent for each in children] == [1, 1, 1]


def test_the_incumbent_never_gets_worse() -> None:
    made = search({"steps": 6})
    history = play(made, list(np.random.default_rng(0).random(19)))
    accuracies = [trial.observations["accuracy"] for trial in history]
    parents = [trial.suggestion.parent for trial in history[1:]]
    reached = [accuracies[parent] for parent in parents if parent is not None]
    assert len(reached) == 18
    assert reached == sorted(reached)
    assert reached[-1] == max(accuracies[:16])


def test_the_last_network_is_trained_on_the_whole_budget() -> None:
    made = search(budget={"parameter": "epochs", "min": 2, "max": 9})
    history = play(made, [0.5, 0.6, 0.7, 0.1, 0.2, 0.3, 0.9, 0.8])
    assert [trial.suggestion.budget for trial in history] == [2] * 7 + [9]
    assert history[7].suggestion.parent == 6
    assert networks(history)[7].hash == networks(history)[6].hash
    assert suggest(made, history, 8) == []


def test_results_of_others_lead_to_other_children() -> None:
    made = search()
    history = play(made, [0.5, 0.6, 0.7, 0.8])
    values = [0.8, 0.5, 0.6, 0.7]
    other = History(
        tuple(replace(trial, observations={"accuracy": value}) for trial, value in zip(history, values, strict=True))
    )
    assert [each.topology for each in suggest(made, history, 8)] != [each.topology for each in suggest(made, other, 8)]


def test_each_morphism_is_drawn_as_often_and_layers_widen_by_two_or_four() -> None:
    rng = np.random.default_rng(0)
    edits: list[dict[str, Any]] = []
    for _ in range(300):
        edits += [dict(edit) for edit in grown(PARENT, 1, rng, MANY).edits]
    counts = Counter(edit["edit"] for edit in edits)
    assert set(counts) <= {"deepen", "widen", "concat", "skip"}
    assert min(counts["deepen"], counts["widen"]) > 50
    assert {edit["k"] for edit in edits if edit["edit"] == "deepen"} == {3, 5}
    widths = {edge.key: CHAIN.shapes[edge.dst][0] for edge in CHAIN.flat.live.edges}
    assert {edit["to"] / widths[edit["edge"]] for edit in edits if edit["edit"] == "widen"} == {2.0, 4.0}


def test_children_keep_within_the_parameters_that_they_may_have() -> None:
    rng = np.random.default_rng(0)
    most = CHAIN.parameters + 1000
    children = [grown(PARENT, 5, rng, most) for _ in range(20)]
    assert max(child.topology.parameters for child in children) <= most
    assert max(grown(PARENT, 5, rng, MANY).topology.parameters for _ in range(5)) > most
    assert sum(len(child.edits) for child in children) > 40
    assert grown(PARENT, 5, rng, CHAIN.parameters) is PARENT


@pytest.mark.parametrize("seed", range(4))
def test_five_morphisms_in_a_row_leave_what_a_network_computes_as_it_is(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    generator = torch.Generator().manual_seed(seed)
    parent = build(CHAIN, seed=seed)
    for name, buffer in parent.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    candidate = grown(PARENT, 5, np.random.default_rng(seed), MANY)
    assert len(candidate.edits) == 5
    weights = {name: each.numpy() for name, each in parent.state_dict().items()}
    made, inherited = morph(CHAIN, weights, candidate.edits)
    child = build(made, seed=99)
    child.load_state_dict({name: torch.as_tensor(value) for name, value in inherited.items()})
    images = torch.rand(16, *CHAIN.input.shape, generator=generator)
    assert made.hash == candidate.topology.hash != CHAIN.hash
    with torch.no_grad():
        expected = parent.eval()(images)
        difference = (expected - child.eval()(images)).abs().max() / expected.abs().max()
    assert float(difference) < 1e-5


@pytest.mark.parametrize(
    ("architecture", "settings", "where"),
    [
        ("cell", {}, "architecture.space"),
        ("chain", {"max_parameters": 10}, "algorithm.settings.max_parameters"),
    ],
)
def test_what_it_cannot_start_from_is_refused(architecture: str, settings: Any, where: str) -> None:
    algorithm = {"name": "nash", "settings": settings}
    (problem,) = check_algorithm(Experiment.parse(spec(architecture=architecture, algorithm=algorithm)))
    assert problem.where == where
