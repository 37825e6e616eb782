"""Modules of topologies: supernets, shared weights, and what an edge is watched for."""

import numpy as np
import pytest
from nets import mean, net

from katib_flow.models import Topology
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import build, set_weights, weights_of  # noqa: E402

CELL = space_of(Architecture(space="cell"))
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def one_hot(tokens):
    return {slot: torch.eye(4)[token] for slot, token in zip(CELL.slots, tokens, strict=True)}


def test_a_supernet_with_one_choice_an_edge_is_that_architecture():
    tokens = (2, 1, 3, 2, 0, 2)
    supernet = build(CELL.supernet(), seed=0).eval()
    supernet.choose(one_hot(tokens))
    alone = build(CELL.topology(CELL.decode(tokens)), seed=1).eval()
    taken = {}
    for name in weights_of(alone):
        edge, _, rest = name.removeprefix("operations.").partition(".")
        mixed = f"operations.{edge}.0.paths.2.{rest}"  # conv3 is the third choice
        taken[name] = weights_of(supernet)[mixed if mixed in weights_of(supernet) else name]
    set_weights(alone, taken)
    torch.testing.assert_close(supernet(IMAGES), alone(IMAGES))


def test_a_step_of_one_child_leaves_the_weights_of_others_alone():
    supernet = build(CELL.supernet(), seed=0)
    before = weights_of(supernet)
    supernet.choose(one_hot((2, 1, 1, 0, 0, 2)))
    optimiser = torch.optim.SGD(supernet.weights(), lr=0.1)
    supernet(IMAGES).square().sum().backward()
    optimiser.step()
    changed = {name for name, value in weights_of(supernet).items() if not np.array_equal(value, before[name])}
    touched = {"0>1", "2>3"}
    for name in changed:
        if ".paths." in name:
            assert any(f"/{edge}." in name for edge in touched)
    assert any("/0>1.0.paths.2.1.weight" in name for name in changed)
    assert not any("/1>2." in name for name in changed)


def test_architecture_weights_get_the_gradient_of_finite_differences():
    supernet = build(CELL.supernet(), seed=0, affine=False).double()
    weights = supernet.architecture_weights()
    images = IMAGES.double()

    def loss() -> torch.Tensor:
        supernet.choose({group: alpha.softmax(0) for group, alpha in weights.items()})
        return torch.nn.functional.cross_entropy(supernet(images), torch.tensor([1, 2, 3, 4]))

    loss().backward()
    for group, alpha in weights.items():
        for choice in range(4):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha[choice] += step
                    values.append(float(loss()))
                    alpha[choice] -= step
            assert float(alpha.grad[choice]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8), group


def test_architecture_weights_are_no_weights():
    supernet = build(CELL.supernet(), seed=0)
    alphas = {id(each) for each in supernet.architecture_weights().values()}
    assert len(alphas) == 6
    assert not alphas & {id(each) for each in supernet.weights()}
    assert len(supernet.weights()) + 6 == len(list(supernet.parameters()))


def test_edges_that_share_a_name_of_weights_are_one_module():
    data = net({"a": "add", "b": "add"}, [("1", "x", "a", "conv3"), ("2", "a", "b", "conv3"), mean("b")])
    for edge in data["graphs"]["net"]["edges"][:2]:
        edge["weights"] = "both"
    topology = Topology.parse(data)
    network = build(topology, seed=0)
    assert list(network.operations) == ["both", "out"]
    assert sum(each.numel() for each in network.parameters()) == topology.parameters


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = build(CELL.initial, seed=3), build(CELL.initial, seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert all(np.array_equal(value, weights_of(other)[name]) for name, value in weights_of(one).items())


def test_a_seed_leaves_the_generators_of_gpus_alone(monkeypatch: pytest.MonkeyPatch):
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(5)
    build(CELL.initial, seed=3)
    assert seeded == [5]


def test_a_watched_network_tells_what_each_operation_gives():
    network = build(CELL.topology(CELL.decode((2,) * 6)), seed=0)
    seen = {}
    network.watch = lambda edge, out: seen.setdefault(edge, tuple(out.shape))
    network(IMAGES)
    assert seen["cell0.0/0>1"] == (4, 8, 8, 8)
    assert seen["cell1.0/2>3"] == (4, 16, 4, 4)


def test_latency_is_the_middle_of_the_timed_passes_and_leaves_the_network_as_it_was(monkeypatch):
    from katib_flow.models import latency

    clock = iter([0.0, 0.5, 1.0, 1.1, 2.0, 2.2])  # 0.5, 0.1 and 0.2 seconds
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    network = build(CELL.topology(CELL.decode((2,) * 6)), seed=0).train()
    passes = []
    network.register_forward_pre_hook(lambda module, inputs: passes.append((module.training, inputs[0].shape[0])))
    threads = torch.get_num_threads()
    assert latency.latency_seconds(network, runs=3, warm_up=2) == pytest.approx(0.2)
    assert passes == [(False, 1)] * 5
    assert network.training
    assert torch.get_num_threads() == threads


def test_a_segment_of_a_search_goes_on_from_all_weights_of_the_one_before():
    from katib_flow.models.morphisms import inherited

    supernet = build(CELL.supernet(), seed=0)
    with torch.no_grad():
        for alpha in supernet.architecture_weights().values():
            alpha += torch.arange(4.0)
    weights = weights_of(supernet)
    taken = inherited(supernet.topology, weights, CELL.supernet())
    assert taken.keys() == weights.keys()
    assert all(np.array_equal(taken[name], weights[name]) for name in weights)
