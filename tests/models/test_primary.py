"""The merge function ``primary``, maps summed in the shape of the first, and weights that are taken over by shape."""

import numpy as np
import pytest
from nets import mean, net
from test_morphisms import an_edit, child_of, lived, worst

from katib_flow.errors import InvalidSpec
from katib_flow.models import Topology
from katib_flow.models.morphisms import inherited, modify, morphisms

torch = pytest.importorskip("torch")
from katib_flow.models.build import build, weights_of  # noqa: E402
from katib_flow.models.merges import merge_of  # noqa: E402

EDGES = [
    ("one", "x", "a", "conv3", {"c": 4, "s": 2}),
    ("two", "a", "m", "conv3", {"c": 6}),
    ("skip", "x", "m", "identity"),
    ("end", "m", "e", "conv1", {"c": 4}),
    mean("e"),
]


def resizing() -> Topology:
    return Topology.parse(net({"a": "add", "m": "primary", "e": "add"}, EDGES))


@pytest.mark.parametrize(("first", "other"), [((2, 4, 6), (5, 8, 3)), ((5, 8, 3), (2, 4, 6)), ((3, 5, 5), (3, 5, 5))])
def test_it_is_a_sum_of_nearest_values_channels_cut_off_or_filled_up(first, other):
    rng = np.random.default_rng(0)
    one, two = rng.random((2, *first)), rng.random((2, *other))
    expected = one.copy()
    for channel in range(min(first[0], other[0])):
        for row in range(first[1]):
            for column in range(first[2]):
                near = two[:, channel, row * other[1] // first[1], column * other[2] // first[2]]
                expected[:, channel, row, column] += near
    merge = merge_of("primary")
    found = merge.apply([torch.from_numpy(one), torch.from_numpy(two)]).numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    assert merge.shape([first, other]) == first


def test_the_first_edge_written_is_the_primary_one():
    topology = resizing()
    assert topology.shapes["m"] == (6, 4, 4)
    swapped = Topology.parse(net({"a": "add", "m": "primary", "e": "add"}, [EDGES[0], EDGES[2], EDGES[1], *EDGES[3:]]))
    assert swapped.shapes["m"] == (4, 8, 8)
    assert swapped.hash != topology.hash


def test_what_is_no_map_is_not_resized():
    edges = [("a", "x", "m", "global-mean"), ("b", "x", "m", "global-mean"), ("c", "m", "y", "dense", {"features": 4})]
    with pytest.raises(InvalidSpec, match=r"need maps of \(channel, height, width\) to resize"):
        Topology.parse(net({"m": "primary"}, edges))


@pytest.mark.parametrize("kind", morphisms())
def test_a_morphism_of_a_network_that_resizes_keeps_its_function_or_is_refused(kind):
    parent, kept = lived(resizing(), 3), 0
    for seed in range(12):
        try:
            child = child_of(parent, [an_edit(parent.topology, kind, seed)])
        except InvalidSpec:
            continue
        kept += 1
        assert worst(parent, child) < 1e-6
        parent = lived(resizing(), seed)
    assert kept


def test_what_is_resized_is_not_widened():
    """Of the four channels that meet the first four of six, one more would meet a fifth."""
    with pytest.raises(InvalidSpec, match="channels are tied"):
        modify(resizing(), [{"edit": "widen", "edge": "two", "to": 7, "seed": 0}])
    wider = modify(resizing(), [{"edit": "widen", "edge": "one", "to": 8, "seed": 0}])
    assert wider.shapes["a"] == (8, 4, 4)


def test_by_shape_a_child_takes_over_what_comes_after_a_new_layer_too():
    parent = lived(resizing(), 1)
    conv = {"edit": "set", "edge": "one.id1", "op": "conv", "params": {"c": 4, "k": 3}}
    child = modify(parent.topology, [{"edit": "insert", "edge": "one"}, conv])
    weights = weights_of(parent)
    by_shape = inherited(parent.topology, weights, child.model_copy(update={"weights": "shape"}))
    assert by_shape.keys() == weights.keys()
    assert all(np.array_equal(by_shape[name], weights[name]) for name in weights)
    by_channels = inherited(parent.topology, weights, child)
    assert not by_channels["operations.two.1.weight"].any()  # it reads channels that are new


def test_by_shape_a_tensor_of_another_shape_or_name_is_left_to_chance():
    parent = lived(resizing(), 1)
    child = modify(parent.topology, [{"edit": "set", "edge": "two", "op": "conv", "params": {"c": 7, "k": 3}}])
    taken = inherited(parent.topology, weights_of(parent), child.model_copy(update={"weights": "shape"}))
    shapes = {name: tuple(tensor.shape) for name, tensor in build(child, seed=0).state_dict().items()}
    alike = {name for name, tensor in weights_of(parent).items() if tensor.shape == shapes.get(name)}
    assert set(taken) == alike
    assert not any(name.startswith("operations.two.1") for name in taken)
    assert any(name.startswith("operations.one.1") for name in taken)
    assert inherited(parent.topology, weights_of(parent), child.model_copy(update={"weights": "fresh"})) == {}
