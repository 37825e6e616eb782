"""Modifiers of networks: small random changes, as edits, that need not keep the function of a network.

Paper: Kandasamy et al., "Neural Architecture Search with Bayesian Optimisation and Optimal Transport", NeurIPS 2018,
table of modifiers: change the units of one layer, or of many, by an eighth; duplicate a path; remove a layer; insert
one; add a skip connection; or swap a label.
"""

from collections.abc import Callable, Sequence

import numpy as np

from katib_flow.models import layers
from katib_flow.models.edits import Fields, new_key, shape_after
from katib_flow.models.flat import FlatEdge
from katib_flow.models.topology import Topology
from katib_flow.nas.growth import one_of

CONVOLUTIONS = ("conv", "sep")
KERNELS = (3, 5, 7)
Edges = Sequence[FlatEdge]
Modifier = Callable[[Topology, Edges, np.random.Generator], list[Fields]]


def modification(topology: Topology, rng: np.random.Generator) -> list[Fields]:
    """The edits of a random modifier, drawn uniformly; they may be empty, or impossible for this network."""
    live = [edge for edge in topology.flat.live.edges if not edge.dead]
    inner = [edge for edge in live if any(isinstance(layer, layers.Conv | layers.Pool) for layer in edge.layers)]
    return one_of(MODIFIERS, rng)(topology, inner, rng) if inner else []


def _scaled_widths(edges: Edges, rng: np.random.Generator) -> list[Fields]:
    """Raise, or lower, the units of some edges by an eighth."""
    sign = one_of((-1, 1), rng)
    own = [(edge, edge.params["c"]) for edge in edges if edge.params.get("c")]
    new = [(edge, max(1, units + sign * max(1, round(units / 8)))) for edge, units in own]
    return [{"edit": "set", "edge": e.key, "op": e.op, "params": {**e.params, "c": c}} for e, c in new]


def _one_width(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    return _scaled_widths([one_of(edges, rng)], rng)


def _many_widths(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    """En masse: half of up to 4 layers, a quarter of up to 8, an eighth of more."""
    count = max(1, len(edges) // (8 if len(edges) > 8 else 4 if len(edges) > 4 else 2))
    chosen = [edges[at] for at in sorted(rng.choice(len(edges), count, replace=False))]
    return _scaled_widths(chosen, rng)


def _swapped_label(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    """Another kernel size or kind of convolution; the other kind of pooling."""
    edge = one_of(edges, rng)
    if not any(isinstance(layer, layers.Conv) for layer in edge.layers):
        other = {"max": "avg", "avg": "max", "max3": "avg3", "avg3": "max3"}.get(edge.op)
        return [{"edit": "set", "edge": edge.key, "op": other, "params": edge.params}] if other else []
    params = {name: value for name, value in edge.params.items() if name in ("c", "s")} | {"k": one_of(KERNELS, rng)}
    return [{"edit": "set", "edge": edge.key, "op": one_of(CONVOLUTIONS, rng), "params": params}]


def _wedged_layer(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    edge = one_of(edges, rng)
    channels = shape_after(topology, edge)[0]
    wedge = {"edge": new_key(topology, edge.key, "id"), "op": one_of(CONVOLUTIONS, rng)}
    params = {"c": channels, "k": one_of(KERNELS, rng)}
    return [{"edit": "insert", "edge": edge.key}, {"edit": "set", **wedge, "params": params}]


def _removed_layer(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    return [{"edit": "remove", "edge": one_of(edges, rng).key}]


def _skip(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    vertices = list(topology.flat.live.vertices)
    src, dst = sorted(rng.choice(len(vertices), 2, replace=False))
    return [{"edit": "concat", "src": vertices[src], "dst": vertices[dst]}]


def _doubled_path(topology: Topology, edges: Edges, rng: np.random.Generator) -> list[Fields]:
    """Duplicate a path of one to three layers; the outputs of both are concatenated."""
    inner, path = {edge.key for edge in edges}, [one_of(edges, rng)]
    for _ in range(int(rng.integers(3))):
        onward = [edge for edge in topology.flat.live.outgoing[path[-1].dst] if edge.key in inner]
        path += [one_of(onward, rng)] if onward else []
    end = path[-1].dst
    if len(topology.flat.live.incoming[end]) > 1:
        return []
    names = {edge.key: new_key(topology, edge.key, "twin") for edge in path}
    sources = [path[0].src, *(names[edge.key] for edge in path[:-1])]
    targets = [*(names[edge.key] for edge in path[:-1]), end]
    copies = [
        {"id": names[edge.key], "src": src, "dst": dst, "op": edge.op, "params": dict(edge.params)}
        for edge, src, dst in zip(path, sources, targets, strict=True)
    ]
    vertices = {**dict.fromkeys(targets[:-1], "add"), end: "concat"}
    return [{"edit": "append", "vertices": vertices, "edges": copies}]


MODIFIERS: tuple[Modifier, ...] = (
    _one_width,
    _many_widths,
    _doubled_path,
    _removed_layer,
    _wedged_layer,
    _skip,
    _swapped_label,
)
