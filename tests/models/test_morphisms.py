"""Edits on random networks: what keeps the function, and what keeps the weights."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import dags, mean, net

from katib_flow.errors import InvalidSpec
from katib_flow.models import Topology
from katib_flow.models.morphisms import inherited, modify, morph, morphisms
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture

torch = pytest.importorskip("torch")
from katib_flow.models.build import Network, build, set_weights, weights_of  # noqa: E402


def lived(topology: Topology, seed: int) -> Network:
    """A network as after some training: normalisation has seen something, gates and scales are anything."""
    network = build(topology, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight, module.bias):
                tensor.data += 0.3 * torch.randn(tensor.shape, generator=generator)
            module.running_var.data *= 0.5 + torch.rand(module.running_var.shape, generator=generator)
    return network.eval()


def child_of(parent: Network, edits: list[dict[str, Any]]) -> Network:
    topology, weights = morph(parent.topology, weights_of(parent), edits)
    child = build(topology, seed=1)
    assert set(weights) == set(child.state_dict()), "a morphism leaves no tensor to chance"
    set_weights(child, weights)
    return child.eval()


def worst(one: Network, other: Network, seed: int = 0) -> float:
    """The largest difference between what two networks compute, relative to the size of what they compute."""
    images = torch.rand(4, *one.topology.input.shape, generator=torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        expected, found = one.double()(images), other.double()(images)
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1.0))


def an_edit(topology: Topology, kind: str, seed: int) -> dict[str, Any]:
    """Some edit of a kind, which may not fit."""
    rng = np.random.default_rng(seed)
    edges = [edge for edge in topology.flat.live.edges if not edge.dead]
    edge, vertices = edges[rng.integers(len(edges))], list(topology.flat.live.vertices)
    if kind == "widen":
        width = topology.shapes[edge.dst][0]
        return {"edit": kind, "edge": edge.key, "to": int(width + rng.integers(1, width + 1)), "seed": seed}
    if kind in ("skip", "concat"):
        src, dst = sorted(rng.choice(len(vertices), 2))
        return {"edit": kind, "src": vertices[src], "dst": vertices[dst]}
    return {"edit": kind, "edge": edge.key, **({"k": 5} if kind == "kernel" else {})}


@settings(max_examples=500, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=dags(most=4), kind=st.sampled_from(morphisms()), seed=st.integers(0, 10_000))
def test_a_morphism_keeps_the_function_of_any_network(data, kind, seed):
    topology = Topology.parse(data)
    for attempt in range(6):
        edits = [an_edit(topology, kind, seed + attempt)]
        try:
            modify(topology, edits)
        except InvalidSpec:
            continue  # it does not fit there
        parent = lived(topology, seed)
        child = child_of(parent, edits)
        assert child.topology.hash != topology.hash or kind == "insert"
        assert worst(parent, child) < 1e-5
        return


@settings(max_examples=60)
@given(
    data=dags(most=3), kinds=st.lists(st.sampled_from(morphisms()), min_size=5, max_size=5), seed=st.integers(0, 999)
)
def test_five_morphisms_one_after_the_other_keep_the_function(data, kinds, seed):
    start = topology = Topology.parse(data)
    edits: list[dict[str, Any]] = []
    for number, kind in enumerate(kinds):
        each = an_edit(topology, kind, seed + number)
        try:
            topology = modify(topology, [each])
        except InvalidSpec:
            continue
        edits.append(each)
    parent = lived(start, seed)
    assert worst(parent, child_of(parent, edits)) < 1e-5


@pytest.mark.parametrize("space", ["cell", "pairs", "dense", "macro", "mobile", "hierarchical", "chain", "envelope"])
@pytest.mark.parametrize("kind", morphisms())
def test_a_morphism_keeps_the_function_of_the_presets(space, kind):
    made = space_of(Architecture(space=space))
    tried = 0
    for seed in range(30):
        topology = made.topology(made.draw(np.random.default_rng(seed)))
        if not topology.parameters:
            continue
        edits = [an_edit(topology, kind, seed)]
        try:
            modify(topology, edits)
        except InvalidSpec:
            continue
        parent = lived(topology, seed)
        assert worst(parent, child_of(parent, edits)) < 1e-5
        tried += 1
        if tried == 3:
            return
    assert tried


CHAIN = net(
    {"a": "add", "b": "add"},
    [("1", "x", "a", "conv", {"c": 6, "order": "conv-bn-relu"}), ("2", "a", "b", "conv3", {"c": 4}), mean("b")],
)


def test_the_copies_of_a_channel_share_its_weight_in_what_reads_them():
    parent = lived(Topology.parse(CHAIN), 0)
    child = child_of(parent, [{"edit": "widen", "edge": "1", "to": 15, "seed": 3}])
    before, after = parent.operations["2"][1].weight, child.operations["2"][1].weight
    assert after.shape[1] == 15
    first, copied = parent.operations["1"][0].weight, child.operations["1"][0].weight
    for channel in range(6):
        copies = [place for place in range(15) if torch.equal(copied[place], first[channel])]
        assert copies
        torch.testing.assert_close(after[:, copies].sum(1), before[:, channel])


def test_a_replay_of_the_edits_gives_the_same_bits_and_another_seed_other_channels():
    parent = lived(Topology.parse(CHAIN), 0)
    weights = weights_of(parent)

    def widened(seed: int):
        return morph(parent.topology, weights, [{"edit": "widen", "edge": "1", "to": 9, "seed": seed}])[1]

    one, again, other = widened(1), widened(1), widened(2)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_a_child_of_morphisms_learns():
    parent = lived(Topology.parse(CHAIN), 0)
    edits = [{"edit": kind, "edge": "1", "to": 9, "k": 5} for kind in ("widen", "deepen", "kernel", "branch")]
    edits += [{"edit": "skip", "src": "x", "dst": "b"}, {"edit": "concat", "src": "x", "dst": "a"}]
    child = child_of(parent, edits).float().train()
    images, labels = torch.rand(32, 4, 8, 8), torch.arange(32) % 4
    optimiser = torch.optim.SGD(child.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(child(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    moved = [
        name for name, each in child.named_parameters() if each.grad is not None and float(each.grad.abs().sum()) > 0
    ]
    assert len(moved) == len(list(child.named_parameters()))
    assert losses[-1] < losses[0] - 0.05


def test_what_is_stacked_brings_channels_that_nobody_reads_yet():
    parent = lived(Topology.parse(CHAIN), 0)
    edits = [{"edit": "concat", "src": "x", "dst": "a"}] * 2
    child = child_of(parent, edits)
    before, after = parent.operations["2"][1].weight, child.operations["2"][1].weight
    assert after.shape == (4, 6 + 4 + 4, 3, 3)
    assert torch.equal(after[:, :6], before)
    assert not after[:, 6:].any()
    assert torch.equal(child.operations["1"][0].weight, parent.operations["1"][0].weight)


def test_a_channel_that_is_stacked_twice_keeps_both_places():
    twice = net(
        {"a": "add", "b": "add"},
        [("1", "x", "a", "conv3", {"c": 5}), ("2", "a", "b", "conv3", {"c": 4}), mean("b")],
    )
    parent = lived(Topology.parse(twice), 0)
    stacks = [{"edit": "concat", "src": "x", "dst": "a"}, {"edit": "concat", "src": "a", "dst": "x>a.concat1"}]
    grown = child_of(parent, stacks)
    for tensor in grown.operations["2"].parameters():
        tensor.data += 0.1  # now the copies of a channel are told apart
    again = child_of(grown.float(), [{"edit": "concat", "src": "x", "dst": "a"}])
    assert worst(grown, again) < 1e-5


def test_a_removed_layer_lets_through_what_came_to_it_and_the_rest_keeps_its_weights():
    parent = lived(Topology.parse(CHAIN), 0)
    topology, weights = morph(parent.topology, weights_of(parent), [{"edit": "remove", "edge": "1"}])
    alone = net({"b": "add"}, [("2", "x", "b", "conv3", {"c": 4}), mean("b")])
    assert topology.hash == Topology.parse(alone).hash
    assert not any(name.startswith("operations.1.") for name in weights)
    assert "operations.2.2.weight" in weights


def test_of_a_sum_one_layer_is_removed_and_what_it_read_is_added():
    both = net(
        {"a": "add", "b": "add"},
        [("1", "x", "a", "conv3"), ("2", "x", "b", "conv1"), ("3", "a", "b", "conv3"), mean("b")],
    )
    removed = modify(Topology.parse(both), [{"edit": "remove", "edge": "2"}])
    kept = net(
        {"a": "add", "b": "add"},
        [("1", "x", "a", "conv3"), ("2", "x", "b", "skip"), ("3", "a", "b", "conv3"), mean("b")],
    )
    assert removed.hash == Topology.parse(kept).hash


def stacked(branches: tuple[str, ...]) -> dict[str, Any]:
    edges = [(f"b.{op}", "x", "in", op, {"c": 3}) for op in branches]
    return net({"in": "concat", "out": "add"}, [*edges, ("fit", "in", "out", "conv1", {"c": 4}), mean("out")])


def test_a_pruned_branch_takes_its_columns_along_and_leaves_the_others():
    parent = lived(Topology.parse(stacked(("conv1", "conv3", "sep3"))), 0)
    topology, weights = morph(parent.topology, weights_of(parent), [{"edit": "prune", "edge": "b.conv3"}])
    assert topology.hash == Topology.parse(stacked(("conv1", "sep3"))).hash
    before, after = parent.operations["fit"][1].weight.detach().numpy(), weights["operations.fit.1.weight"]
    assert np.array_equal(after, before[:, [0, 1, 2, 6, 7, 8]])
    assert np.array_equal(weights["operations.b·sep3.1.weight"], parent.operations["b·sep3"][1].weight.detach().numpy())


def test_a_channel_that_is_stacked_twice_keeps_its_columns_apart_when_another_branch_is_pruned():
    edges = [("one", "x", "in", "skip"), ("two", "x", "in", "skip"), ("three", "x", "in", "conv3", {"c": 3})]
    data = net({"in": "concat", "out": "add"}, [*edges, ("fit", "in", "out", "conv1", {"c": 4}), mean("out")])
    parent = lived(Topology.parse(data), 0)
    weights = morph(parent.topology, weights_of(parent), [{"edit": "prune", "edge": "three"}])[1]
    before = parent.operations["fit"][1].weight.detach().numpy()
    assert np.array_equal(weights["operations.fit.1.weight"], before[:, :8])


def test_pruning_a_branch_that_gives_zeros_keeps_the_function():
    parent = lived(Topology.parse(stacked(("conv1", "conv3"))), 0)
    norm = parent.operations["b·conv3"][2]
    norm.weight.data.zero_()
    norm.bias.data.zero_()
    topology, weights = morph(parent.topology, weights_of(parent), [{"edit": "prune", "edge": "b.conv3"}])
    child = build(topology, seed=1)
    set_weights(child, weights)
    fit = child.operations["fit"][2]
    assert set(weights) == set(child.state_dict())
    assert fit is not None
    assert worst(parent, child.eval()) < 1e-5


def test_an_operation_that_is_changed_is_new_and_the_rest_is_not():
    parent = lived(Topology.parse(CHAIN), 0)
    edits = [{"edit": "set", "edge": "2", "op": "sep3", "params": {"c": 4}}]
    weights = morph(parent.topology, weights_of(parent), edits)[1]
    kept = {name for name in weights_of(parent) if name.startswith("operations.1.")}
    assert kept <= set(weights)
    assert not any(name.startswith("operations.2.") and weights[name].ndim == 4 for name in weights)


def test_a_child_without_edits_takes_over_what_has_its_name_and_shape():
    space = space_of(Architecture(space="cell"))
    one = space.topology(space.decode((2, 2, 2, 2, 2, 2)))
    other = space.topology(space.decode((2, 1, 2, 2, 3, 2)))
    weights = weights_of(build(one, seed=0))
    taken = inherited(one, weights, other)
    assert taken
    assert set(taken) == set(weights_of(build(other, seed=0))) & set(weights)
    assert all(np.array_equal(taken[name], weights[name]) for name in taken)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([{"edit": "wide", "edge": "1"}], "edits[0].edit: found 'wide', need an edit: append, branch, "),
        ([{"edit": "widen", "edge": "1"}], "edits[0].to: found nothing, need a value, for widen"),
        (
            [{"edit": "widen", "edge": "1", "to": 6}],
            "edits[0]: to: found 6, need a number above 6, the output channels of 1",
        ),
        ([{"edit": "widen", "edge": "2", "to": 9}], "because its channels are tied to others"),
        ([{"edit": "deepen", "edge": "3"}], "edits[0]: edge: found '3', need an edge of the network: 1, 2, out"),
        ([{"edit": "skip", "src": "b", "dst": "a"}], "need a vertex that comes after b"),
        ([{"edit": "concat", "src": "a", "dst": "y"}], "need a vertex with maps, and a src with maps"),
        ([{"edit": "concat", "src": "x", "dst": "b"}], "vertex y"),
        ([{"edit": "kernel", "edge": "2", "k": 1}], "need a kernel larger than that of 2 (3)"),
        ([{"edit": "prune", "edge": "2"}], "vertex y"),
    ],
)
def test_an_edit_that_does_not_fit_is_told_by_its_position(edits, message):
    with pytest.raises(InvalidSpec) as caught:
        modify(Topology.parse(CHAIN), edits)
    assert message in str(caught.value)


def test_edits_that_do_not_make_the_child_are_refused():
    parent = Topology.parse(CHAIN)
    child = modify(parent, [{"edit": "deepen", "edge": "1"}])
    wrong = child.model_copy(update={"edits": ({"edit": "insert", "edge": "1"},)})
    with pytest.raises(InvalidSpec, match="need edits that give"):
        inherited(parent, weights_of(build(parent, seed=0)), wrong)


@settings(max_examples=60)
@given(
    one=st.lists(st.integers(0, 6), min_size=6, max_size=6), other=st.lists(st.integers(0, 6), min_size=6, max_size=6)
)
def test_whatever_changes_between_two_cells_what_is_taken_over_fits(one, other):
    operations = ["none", "skip", "conv1", "conv3", "sep3", "dil3", "avg3"]
    space = space_of(Architecture(space="cell", settings={"operations": operations}))
    parent, child = space.topology(space.decode(one)), space.topology(space.decode(other))
    weights = weights_of(build(parent, seed=0))
    network = build(child, seed=1)
    set_weights(network, inherited(parent, weights, child))
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)
