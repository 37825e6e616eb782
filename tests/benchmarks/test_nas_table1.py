"""The run of Table 1: the cost of a search and its end, that a control learns nothing, and that rows add up."""

import json
from pathlib import Path

import pytest

from katib_flow.algorithms.registry import registered_algorithms
from katib_flow.nas.table import boxes

pytest.importorskip("torch")
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import nas_budget, nas_table1
from benchmarks.nas_boxes import BOXES, RULE, SUPERNETS, example, rule_network, settings_of
from benchmarks.nas_budget import Counted, search, trained_again
from benchmarks.nas_table1 import Task, choice, digest, missing, read, report, tasks
from katib_flow.models.build import build
from katib_flow.training.data import load_data
from katib_flow.training.loop import Recipe, evaluate, train

aten = torch.ops.aten


class Dispatched(TorchDispatchMode):
    """An oracle: the multiply-accumulates of all products that PyTorch dispatches to a kernel."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation is aten.convolution:
            self.total += result.numel() * args[1][0].numel()
        elif operation is aten.convolution_backward:
            self.total += args[0].numel() * args[2][0].numel() * sum(args[-1][:2])
        elif operation in (aten.mm, aten.bmm, aten.addmm):
            self.total += result.numel() * args[-2].shape[-1]
        return result


def test_every_box_of_the_table_is_there():
    registered = {key: set(box.here) for key, box in boxes(registered_algorithms().values()).items()}
    here = {key: set() for key in registered}
    for box in BOXES.values():
        here[box.strategy, box.scope].add(box.experiment.algorithm.name)
    assert here == registered
    assert len(BOXES) == 22
    assert {name for name, box in BOXES.items() if box.control == "random"} == set(SUPERNETS)


def test_the_page_says_when_to_use_each_system():
    page = (Path(__file__).parents[2] / "docs" / "nas-results.md").read_text()
    for name, box in BOXES.items():
        assert f"| `{name}` | {box.when} |" in page


def test_the_cost_of_a_forward_pass_is_what_the_topology_says():
    topology, images = rule_network(), torch.zeros(5, 1, 8, 8)
    with torch.no_grad(), Counted() as counted:
        build(topology).eval()(images)
    assert counted.total == 5 * topology.flops / 2


@pytest.mark.parametrize("groups", [1, 4])
def test_the_cost_of_a_step_is_that_of_three_passes_but_for_what_needs_no_gradient(groups):
    layer = torch.nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=False)
    forward = 2 * 8 * 7 * 7 * (4 // groups) * 9
    for images, passes in ((torch.zeros(2, 4, 7, 7), 2), (torch.zeros(2, 4, 7, 7, requires_grad=True), 3)):
        with Counted() as counted:
            layer(images).sum().backward()
        assert counted.total == passes * forward


def _mixed(frozen):
    """A network with convolutions of one group and of several, and linear maps with a bias and without."""
    conv, linear = torch.nn.Conv2d, torch.nn.Linear
    network = torch.nn.Sequential(
        conv(1, 4, 3, bias=False), conv(4, 4, 3, groups=4), torch.nn.Flatten(2), linear(16, 5), linear(5, 3, bias=False)
    )
    network[1].requires_grad_(not frozen)
    return network


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("wanted", ["all", "first", "last"])
def test_the_count_is_that_of_every_operation_that_pytorch_dispatches(frozen, wanted):
    network, images = _mixed(frozen), torch.zeros(2, 1, 8, 8)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    weights = {"all": weights, "first": weights[:1], "last": weights[-1:]}[wanted]
    with Dispatched() as oracle, Counted() as counted:
        torch.autograd.grad(network(images).sum(), weights)
        with torch.no_grad():
            network(images)
    assert counted.total == oracle.total > 0
    network(images)
    assert counted.total == oracle.total


@pytest.mark.parametrize("name", ["darts", "proxylessnas"])
def test_the_count_of_a_search_is_that_of_every_operation_that_pytorch_dispatches(name, monkeypatch):
    oracle = Dispatched()

    class Both(Counted):
        def __enter__(self):
            oracle.__enter__()
            return super().__enter__()

        def __exit__(self, *error):
            super().__exit__(*error)
            oracle.__exit__(*error)

    monkeypatch.setattr(nas_budget, "Counted", lambda: counted)
    counted = Both()
    list(search(BOXES[name].experiment, 200, seed=0))
    assert counted.total == oracle.total > 200e6


def test_a_search_ends_with_its_budget_and_one_that_ended_before_begins_again(monkeypatch):
    experiment = example("nas-adanet", algorithm=settings_of("nas-adanet", rounds=1, epochs=1))
    one, cost = 0, 0.0
    rows = list(search(experiment, 30, seed=0))
    assert 2 < len(rows) < 20  # a search has two trainings, and there are ten searches at most
    for row in rows:
        one, cost = row.cost - cost, row.cost
        assert 0 < one < 30
    assert cost < 30
    assert [row.seen for row in rows[:2]] != [row.seen for row in rows[2:4]]
    assert len(list(search(experiment, 1e9, seed=0))) == 20
    monkeypatch.setattr(nas_budget, "MOST_TRAININGS", 3)
    assert len(list(search(experiment, 1e9, seed=0))) == 3


@pytest.mark.slow
def test_the_search_of_a_supernet_has_a_cost_and_yields_the_networks_it_derived():
    cell = {"space": "cell", "settings": {"nodes": 3, "channels": 2, "stages": 1}}
    changes = {"epochs": 1, "segment_epochs": 1, "retrain": 2}
    short = example(
        "darts",
        algorithm=settings_of("darts", **changes),
        architecture=cell,
        trial={"arguments": {"epochs": 1, "train_size": 32}},
    )
    first, second, *_ = search(short, 1e3, seed=0)
    training = second.cost - first.cost
    assert first.cost > 2 * training  # one epoch of all operations at once, with its architecture's steps


@pytest.mark.slow
def test_a_system_with_noise_as_feedback_trains_as_ever_and_learns_from_noise():
    changes = {"trial": {"arguments": {"epochs": 1, "train_size": 32}}}
    experiment = example("nas-network-morphism", **changes)
    searches = []
    for feedback in ("results", "noise"):
        rows = search(experiment, 2_000, seed=0, feedback=feedback)
        searches.append([next(rows) for _ in range(5)])
    informed, blind = searches
    assert informed[0] == blind[0]
    assert [row.topology.hash for row in informed] != [row.topology.hash for row in blind]


def test_a_network_is_trained_again_with_the_recipe_and_its_cost_grows_with_epochs():
    topology, network = rule_network(), build(rule_network(), seed=3)
    (test, cost), (_, twice) = (trained_again(topology, 3, Recipe(epochs=epochs)) for epochs in (1, 2))
    list(train(network, load_data("digits"), Recipe(epochs=1), seed=3))
    assert test == evaluate(network, load_data("digits").test)[1]
    assert twice == 2 * cost


def test_the_choice_is_the_network_that_looked_best_so_far():
    result = {"trainings": [[10, 0.5, 0.7], [20, 0.3, 0.6], [30, 0.4, 0.9]]}
    assert [choice(result, cost) for cost in (5, 10, 20, 30)] == [nas_table1.CHANCE, 0.7, 0.6, 0.6]


def test_seeds_go_side_by_side_and_a_line_that_was_cut_off_is_run_again(tmp_path):
    path = tmp_path / "results.jsonl"
    order = [(task.seed, task.box, task.variant) for task in tasks(["darts", RULE], 2)]
    assert order[:4] == [(0, RULE, "once"), (0, RULE, "budget"), (0, "darts", "results"), (0, "darts", "random")]
    assert [seed for seed, *_ in order] == [0] * 4 + [1] * 4
    first, second, *others = missing(path, ["darts"], 2)
    line = json.dumps({"task": json.loads(first.key()), "trainings": []})
    path.write_text(f"{line}\n{line.replace('results', 'random')[:-9]}")
    assert missing(path, ["darts"], 2) == [second, *others]
    assert read(path) == {first.key(): {"trainings": []}}


def test_a_row_has_the_seeds_of_a_system_and_compares_those_that_its_control_has():
    def result(accuracy):
        return {"trainings": [[100, 0.5, accuracy]], "again": accuracy, "parameters": 1_234, "seconds": 2.0}

    settings = digest(BOXES["nash"])
    results = {Task("nash", "results", seed, settings).key(): result(0.9) for seed in range(3)}
    results[Task("nash", "noise", 0, settings).key()] = result(0.5)
    results[Task("nash", "results", 5, "of other settings").key()] = result(0.1)
    (row,) = (line for line in report(results).splitlines() if line.startswith("| `nash` | 3"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == ["`nash`", "3", "1", "90.0 (90.0 to 90.0)", "50.0", ""]
    assert "1,234" in cells
