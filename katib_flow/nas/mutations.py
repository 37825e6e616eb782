"""Random mutations of a network of any depth, as edits, which may be empty, or impossible for the network.

Paper: Real et al., "Large-Scale Evolution of Image Classifiers", ICML 2017, section 3.2: insert, remove
and alter convolutions (stride, channels, filter size); insert identities; add and remove skip connections. Of several
edges into a vertex, the first is primary: the merge function ``primary``.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from katib_flow.models.edits import Fields, new_key, shape_after
from katib_flow.models.flat import FlatEdge
from katib_flow.models.operations import layers_of, operations
from katib_flow.models.topology import Topology
from katib_flow.nas.growth import convolutions, one_of

Mutation = Callable[[Topology, np.random.Generator], Sequence[Fields]]
"""Draws the edits of a mutation; raises IndexError if the network has nothing to mutate in this way."""


def rescaled(number: float, rng: np.random.Generator) -> float:
    """A log-uniform random number in [number / 2, 2 number]."""
    return number * math.exp(rng.uniform(-math.log(2), math.log(2)))


def backbone(network: Topology) -> list[FlatEdge]:
    """The primary edges that lead to feature maps."""
    live = network.flat.live
    return [edges[0] for vertex, edges in live.incoming.items() if edges and len(network.shapes[vertex]) == 3]


def skips(network: Topology) -> list[FlatEdge]:
    """The edges that are not primary at their destination."""
    live = network.flat.live
    return [edge for vertex, merge in live.vertices.items() if merge == "primary" for edge in live.incoming[vertex][1:]]


def _insert_convolution(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    """Insert a 3 x 3 convolution with as many channels as its input, stride 1 or 2, with or without bn and relu."""
    edge = one_of(backbone(network), rng)
    order = one_of(("conv-bn-relu", "conv"), rng)
    params = {"c": network.shapes[edge.dst][0], "k": 3, "s": one_of((1, 2), rng), "order": order}
    new = new_key(network, edge.key, "id")
    return [{"edit": "insert", "edge": edge.key}, {"edit": "set", "edge": new, "op": "conv", "params": params}]


def _convolution(network: Topology, rng: np.random.Generator) -> FlatEdge:
    return one_of([edge for edge in convolutions(network) if operations.get(edge.op, "op").base == "conv"], rng)


def _with(edge: FlatEdge, **params: object) -> Sequence[Fields]:
    params = {**operations.get(edge.op, "op").fixed, **edge.params, **params}
    if layers_of("conv", params) == edge.layers:
        return []
    return [{"edit": "set", "edge": edge.key, "op": "conv", "params": params}]


def _remove_convolution(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    return [{"edit": "remove", "edge": one_of(convolutions(network), rng).key}]


def _alter_stride(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    edge = _convolution(network, rng)
    stride = int(edge.params.get("s", 1))
    return _with(edge, s=one_of([new for new in (stride // 2, 2 * stride) if new], rng))


def _alter_channels(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    edge = _convolution(network, rng)
    return _with(edge, c=max(1, round(rescaled(shape_after(network, edge)[0], rng))))


def _alter_filter_size(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    """Change one side of a filter to an odd number."""
    edge = _convolution(network, rng)
    size = operations.get(edge.op, "op").fixed.get("k") or edge.params.get("k", 3)
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    side = int(rng.integers(2))
    sides[side] = 2 * int(rescaled(sides[side], rng) / 2) + 1
    return _with(edge, k=sides)


def _insert_one_to_one(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    return [{"edit": "insert", "edge": one_of(backbone(network), rng).key}]


def _add_skip(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    """Connect a vertex with feature maps to a later one, unless they are connected already."""
    maps = [vertex for vertex in network.flat.live.vertices if len(network.shapes[vertex]) == 3]
    dst = int(rng.integers(1, len(maps))) if len(maps) > 1 else 0
    src, reached = one_of(maps[:dst], rng), network.flat.live.incoming[maps[dst]]
    if src in {edge.src for edge in reached}:
        return []
    skip = {"id": new_key(network, f"{src}>{maps[dst]}", "skip"), "src": src, "dst": maps[dst], "op": "identity"}
    return [{"edit": "append", "vertices": {maps[dst]: "primary"}, "edges": [skip]}]


def _remove_skip(network: Topology, rng: np.random.Generator) -> Sequence[Fields]:
    return [{"edit": "prune", "edge": one_of(skips(network), rng).key}]


MUTATIONS: dict[str, Mutation] = {
    "insert-convolution": _insert_convolution,
    "remove-convolution": _remove_convolution,
    "alter-stride": _alter_stride,
    "alter-channels": _alter_channels,
    "alter-filter-size": _alter_filter_size,
    "insert-one-to-one": _insert_one_to_one,
    "add-skip": _add_skip,
    "remove-skip": _remove_skip,
}
