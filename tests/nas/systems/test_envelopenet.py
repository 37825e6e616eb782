"""EnvelopeNet against its paper: what is pruned, what is added, how wide it gets, and what it must not look at."""

import random
from dataclasses import replace
from typing import Any

import pytest
from kit import spec

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Kind, State, Trial
from katib_flow.loop import suggest
from katib_flow.models import Topology
from katib_flow.models.spaces.envelope import Envelope, cell_widths, envelope_network
from katib_flow.nas.systems.envelopenet import EnvelopeNetSettings, grown
from katib_flow.spec import Experiment

BRANCHES = ("conv1", "conv3", "sep3", "sep5")


def experiment(**sections: Any) -> Experiment:
    algorithm = {"name": "envelopenet", "settings": {"iterations": 3}}
    return Experiment.parse(spec(architecture="envelope", algorithm=algorithm, **sections))


def statistics_of(topology: Topology, seed: int) -> dict[str, float]:
    rng = random.Random(seed)
    return {f"variance/{edge.key}": rng.random() for edge in topology.flat.edges}


def played(made: Experiment, count: int, accuracy: Any = lambda index: 0.5, seed: int = 0) -> History:
    history = History()
    for _ in range(count):
        (next_,) = suggest(made, history, 2)
        assert next_.topology is not None
        found = statistics_of(Topology.parse(next_.topology), seed + next_.index)
        trial = Trial(next_, State.SUCCEEDED, {"accuracy": accuracy(next_.index), **found})
        history = history.replaced([trial])
    return history


def test_the_branches_of_least_variance_go_and_a_whole_cell_comes():
    """One stage of two cells, eight branches, worked by hand: at most a third, two, may go."""
    cells = [[["conv1", "conv3", "sep3", "sep5"], ["conv1", "conv3", "sep3", "sep5"]]]
    variances = [0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.2, 0.3]
    names = [f"s0.c{cell}.{op}" for cell in range(2) for op in BRANCHES]
    after = grown(cells, dict(zip(names, variances, strict=True)), BRANCHES, EnvelopeNetSettings(max_prune=9))
    assert after == [[["conv1", "sep3", "sep5"], ["conv1", "conv3", "sep5"], list(BRANCHES)]]


def test_a_cell_keeps_its_last_branch_and_ties_go_by_name():
    cells = [[["conv1"], ["sep5", "conv3", "conv1"], ["sep3", "conv1"]]]  # six branches: two may go
    variances = {
        "s0.c0.conv1": 0.0,
        "s0.c1.sep5": 0.2,
        "s0.c1.conv3": 0.2,
        "s0.c1.conv1": 0.2,
        "s0.c2.conv1": 0.1,
        "s0.c2.sep3": 0.1,
    }
    after = grown(cells, variances, BRANCHES, EnvelopeNetSettings(max_prune=9))
    assert after == [[["conv1"], ["sep5", "conv3"], ["sep3"], list(BRANCHES)]]


def test_limits_hold_the_number_pruned_and_the_cells_of_a_stage():
    cells = [[list(BRANCHES)] * 3, [list(BRANCHES)] * 2]
    variances = {f"s{s}.c{c}.{op}": 0.1 * n for s in range(2) for c in range(3) for n, op in enumerate(BRANCHES)}
    after = grown(cells, variances, BRANCHES, EnvelopeNetSettings(max_prune=1, max_cells=3))
    assert after[0] == cells[0]
    assert [len(each) for each in after[1]] == [3, 4, 4]


@pytest.mark.parametrize("count", range(3, 13))
def test_a_chain_of_cells_costs_what_one_step_costs(count):
    width = 100_000
    inner = cell_widths(width, count)[0]
    root = (count - 2) * inner**2 + 2 * width * inner
    assert root == pytest.approx(width**2, rel=1e-4)
    assert cell_widths(8, 1) == [8]
    assert cell_widths(8, 2) == [4, 8]


def test_networks_grow_one_from_the_other_and_then_it_ends():
    made = experiment()
    history = played(made, 4)
    assert [trial.suggestion.parent for trial in history] == [None, 0, 1, 2]
    origins = [(trial.suggestion.origin.kind, trial.suggestion.origin.parents) for trial in history]
    assert origins == [(Kind.GENERATE, ()), (Kind.MODIFY, (0,)), (Kind.MODIFY, (1,)), (Kind.MODIFY, (2,))]
    depths = [Topology.parse(trial.suggestion.topology).meta["cells"] for trial in history]
    assert [[len(stage) for stage in cells] for cells in depths] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert suggest(made, history, 2) == []


def test_other_parameters_stay_what_they_were_for_the_first_network():
    made = experiment()
    (first,) = played(made, 1)
    named = replace(first, suggestion=replace(first.suggestion, assignment={"lr": 0.0123}))
    assert [each.assignment for each in suggest(made, History((named,)), 1)] == [{"lr": 0.0123}]


def test_each_network_is_trained_from_scratch():
    history = played(experiment(), 4)
    assert [Topology.parse(trial.suggestion.topology).weights for trial in history][1:] == ["fresh"] * 3


def test_only_the_last_network_gets_the_whole_budget():
    history = played(experiment(budget={"parameter": "epochs", "min": 2, "max": 9}), 4)
    assert [trial.suggestion.budget for trial in history] == [2, 2, 2, 9]


def test_accuracies_do_not_matter_and_statistics_do():
    made = experiment()
    history = played(made, 2)
    (expected,) = suggest(made, history, 1)
    others = played(made, 2, accuracy=lambda index: 1.0 - index)
    assert suggest(made, others, 1) == [expected]
    last = history[-1]
    names = [name for name in last.observations if name.startswith("variance/s0.c0")]
    values = [last.observations[name] for name in names]
    shifted = {**last.observations, **dict(zip(names, values[1:] + values[:1], strict=True))}
    other = history.replaced([replace(last, observations=shifted)])
    assert suggest(made, other, 1) != [expected]


def test_it_waits_for_a_running_trial_and_tries_a_network_again_that_failed():
    made = experiment()
    history = played(made, 1)
    (second,) = suggest(made, history, 1)
    assert suggest(made, history.replaced([Trial(second, State.RUNNING)]), 1) == []
    for state in (State.FAILED, State.KILLED):
        (again,) = suggest(made, history.replaced([Trial(second, state)]), 1)
        assert (again.index, again.parent, again.topology) == (2, 0, second.topology)


def test_after_a_failure_it_goes_on_to_the_last_network():
    made = experiment()
    history = played(made, 2)
    (third,) = suggest(made, history, 1)
    (again,) = suggest(made, failed := history.replaced([Trial(third, State.FAILED)]), 1)
    found = statistics_of(Topology.parse(again.topology), 2)
    after = failed.replaced([Trial(again, State.SUCCEEDED, {"accuracy": 0.5, **found})])
    (last,) = suggest(made, after, 1)
    assert (last.parent, last.info["construction"]) == (3, 3)


def test_a_trial_that_reports_no_statistics_is_told():
    made = experiment()
    (first,) = suggest(made, History(), 1)
    with pytest.raises(KatibFlowError, match="trial t00000: variance/<branch> was not reported; the trial function"):
        suggest(made, History((Trial(first, State.SUCCEEDED, {"accuracy": 0.5}),)), 1)


def test_the_number_of_parameters_stays_near_what_it_was():
    counts = [Topology.parse(trial.suggestion.topology).parameters for trial in played(experiment(), 4)]
    assert max(counts) < 1.5 * counts[0]


def test_statistics_come_from_the_maps_and_a_dead_branch_goes_first():
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build
    from katib_flow.training.data import load_data
    from katib_flow.training.loop import Recipe, train

    topology = Topology.parse(envelope_network(Envelope(), [[list(BRANCHES)], [list(BRANCHES)]]))
    network = build(topology, seed=0)
    for module in network.operations["s0·c0·sep3"]:
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.zeros_(module.weight)
            module.weight.requires_grad_(False)
    last = list(train(network, load_data("digits", 96), Recipe(epochs=1), statistics=True))[-1]
    found = {edge: float(variance.mean()) for edge, variance in last.statistics.items()}
    assert min((key for key in found if key.startswith("s0")), key=found.__getitem__) == "s0.c0.sep3"
    assert "sep3" not in grown(topology.meta["cells"], found, BRANCHES, EnvelopeNetSettings(max_prune=1))[0][0]


def test_a_cell_may_read_all_earlier_cells_of_its_stage_however_the_network_grows():
    algorithm = {"name": "envelopenet", "settings": {"iterations": 3}}
    made = Experiment.parse(spec(architecture={"space": "envelope", "settings": {"skips": True}}, algorithm=algorithm))
    last = played(made, 4).trials[-1].suggestion.topology
    assert last is not None
    network = Topology.parse(last)
    for stage in range(2):
        for cell in range(4):
            joined = {edge.src for edge in network.flat.edges if edge.dst == f"s{stage}.c{cell}.in" and not edge.layers}
            assert joined == {f"s{stage}.c{earlier}" for earlier in range(cell)}
