import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import dags, mean, net

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models import Topology
from katib_flow.models.draft import Draft
from katib_flow.models.layers import Conv, Pool, ShapeError


def wrong(data) -> str:
    with pytest.raises(InvalidSpec) as caught:
        Topology.parse(data)
    return str(caught.value)


@given(dags())
def test_a_topology_survives_json_with_its_hash(data):
    topology = Topology.parse(data)
    back = Topology.parse(json.loads(json.dumps(topology.to_dict())))
    assert back == topology
    assert back.hash == topology.hash


def test_a_topology_cannot_be_changed():
    topology = Topology.parse(net({}, [mean("x")]))
    with pytest.raises(ValueError, match="frozen"):
        topology.name = "other"


@pytest.mark.parametrize(
    ("vertices", "edges", "message"),
    [
        ({"a": "add", "b": "add"},
         [("1", "x", "a", "conv3"), ("2", "a", "b", "conv3"), ("3", "b", "a", "skip"), mean("b")],
         "topology: edges: found 'a cycle through 2, 3', need edges that form no cycle"),
        ({"a": "add"}, [("1", "x", "a", "conv3", {"c": 8}), ("2", "x", "a", "skip"), mean("a")],
         "topology: vertex a: found 'add of 2', need equal shapes, not (8, 8, 8), (4, 8, 8)"),
        ({"a": "add"}, [("1", "x", "a", "convv3"), mean("a")], "did you mean 'conv3'?"),
        ({"a": "add"}, [("1", "x", "a", "conv3", {"channels": 3}), mean("a")],
         "graphs.net.edges.1.params.channels: found 3, need a parameter of conv3: c, s, d, order"),
        ({"a": "add"}, [("1", "x", "a", "conv", {"k": 2}), mean("a")], "k must be odd, not 2"),
        ({"a": "added"}, [("1", "x", "a", "conv3"), mean("a")], "graphs.net.vertices.a: found 'added', need a merge"),
        ({"a": "add"}, [mean("x")], "topology: vertex a: found 'no edge that leads to it', need at least one edge"),
        ({}, [("1", "z", "y", "global-mean")], "graphs.net.edges.1.src: found 'z', need a vertex: x, y"),
        ({}, [mean("x"), mean("x")], "graphs.net.edges.out: found 'out', need an id that no other edge"),
        ({}, [("1", "x", "y", "@cell")], "graphs.net.edges.1.op: found '@cell', need a graph: @net"),
        ({}, [("1", "x", "y", "@net")], "graphs.net: found 'net in net', need graphs that do not contain themselves"),
        ({}, [("1", "x", "y", "conv3")],
         "vertex y: found 'an output of shape (4, 8, 8)', need shape (4,), one logit per class"),
        ({"a": "add"}, [("1", "x", "a", "global-mean"), ("2", "a", "y", "conv3")],
         "edge 2: found 'conv3 after vertex a', need maps of (channel, height, width) for a convolution, not"),
        ({"a": "add"}, [("1", "x", "a", "max", {"k": 9, "s": 8}), ("2", "a", "y", "head", {"classes": -1})],
         "classes must be a whole number from 1 to 65,536, not -1"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_its_vertex_or_edge(vertices, edges, message):
    assert message in wrong(net(vertices, edges))


@pytest.mark.parametrize("change", ["after", "beside", "set"])
def test_a_draft_names_the_edges_that_it_has_if_another_is_asked_for(change):
    draft = Draft.of(Topology.parse(net({"a": "add"}, [("conv", "x", "a", "conv3"), mean("a")])))
    arguments = {"after": ("new", {"op": "skip"}), "beside": ("new",), "set": ()}
    with pytest.raises(SpecError, match="found 'con', need an edge of the network: conv, out; did you mean 'conv'"):
        getattr(draft, change)("con", *arguments[change])


def test_an_unknown_version_is_refused():
    assert "'topology/1'" in wrong({**net({}, [mean("x")]), "schema": "topology/2"})


def test_a_cell_takes_parameters_from_the_edge_it_stands_on():
    conv = {"id": "1", "src": "x", "dst": "y", "op": "conv3", "params": {"c": "$c"}}
    inner = {"vertices": {"y": "add"}, "edges": [conv]}
    placed = {"id": "1", "src": "x", "dst": "a", "op": "@cell", "params": {"c": 4}}
    end = {"id": "2", "src": "a", "dst": "y", "op": "global-mean"}
    outer = {"vertices": {"a": "add", "y": "add"}, "edges": [placed, end]}
    data = {**net({}, []), "graphs": {"net": outer, "cell": inner}}
    assert Topology.parse(data).shapes["1/y"] == (4, 8, 8)
    del placed["params"]
    assert "graphs.cell.edges.1.params.c: found '$c', need a parameter that the cell is given" in wrong(data)


def test_graphs_that_hold_each_other_are_refused_before_they_are_unrolled():
    def holding(name):
        return {"vertices": {"y": "add"}, "edges": [{"id": "1", "src": "x", "dst": "y", "op": f"@{name}"}]}

    data = {**net({}, []), "graphs": {"net": holding("b"), "b": holding("net")}}
    assert "found 'net in b in net'" in wrong(data)


def test_a_network_that_would_be_too_large_is_refused():
    def twice(name):
        ends = [{"id": str(n), "src": "x", "dst": "y", "op": name} for n in range(4)]
        return {"vertices": {"y": "add"}, "edges": ends}

    graphs = {f"g{n}": twice(f"@g{n + 1}") for n in range(9)} | {"g9": twice("conv3")}
    assert "need a smaller network" in wrong({**net({}, []), "graphs": graphs, "root": "g0"})


@given(kernel=st.sampled_from([1, 3, 5]), size=st.integers(1, 9), stride=st.integers(1, 3), dilation=st.integers(1, 2))
def test_a_window_counts_as_torch_counts(kernel, size, stride, dilation):
    torch = pytest.importorskip("torch")
    layer = Conv(2, (kernel, kernel), stride, dilation)
    made = torch.nn.Conv2d(2, 2, kernel, stride, layer.padding, dilation)
    assert layer.shape((2, size, size)) == made(torch.zeros(1, 2, size, size)).shape[1:]


def test_a_window_larger_than_the_map_is_refused():
    with pytest.raises(ShapeError, match="a map larger than 1 for a window of 2"):
        Pool("max", 2, 2).shape((1, 1, 1))


@settings(max_examples=60)
@given(dags())
def test_parameters_and_multiplications_are_those_of_the_module(data):
    torch = pytest.importorskip("torch")
    from katib_flow.models.build import build

    topology = Topology.parse(data)
    module = build(topology, seed=0)
    assert topology.parameters == sum(each.numel() for each in module.parameters())
    counted = 0

    def count(layer, inputs, output):
        nonlocal counted
        counted += output.numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    module(torch.zeros(1, 4, 8, 8))
    assert topology.flops == 2 * counted


def test_reading_and_hashing_a_topology_needs_no_torch():
    code = (
        "import sys; from katib_flow.models import Topology; from katib_flow.spec.sections import Architecture;"
        "from katib_flow.models.presets import space_of; space_of(Architecture(space='cell')).initial.hash;"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
