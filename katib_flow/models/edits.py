"""The registry of edits, what they look at, and those that change what a network computes.

An edit is a function of a topology and of its own fields, and one of the weights. See ``morphisms`` for those that keep
the function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.models import layers
from katib_flow.models.draft import Draft
from katib_flow.models.flat import FlatEdge
from katib_flow.models.inheritance import carried
from katib_flow.models.layers import flow
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights
from katib_flow.plugins import Registry
from katib_flow.wording import did_you_mean

Fields = Mapping[str, Any]
"""An edit as plain data: ``{"edit": name, ...}``."""
Apply = Callable[[Topology, Fields], Draft | Topology]
"""Gives the child, or a draft of it."""
Transfer = Callable[[Topology, Weights, Topology, Fields], Weights]
HOMOGENEOUS = (layers.Pool, layers.GlobalMean, layers.Flatten)
"""Layers that give half of what they gave where half comes in."""


@dataclass(frozen=True)
class Edit:
    """A registered edit.

    Attributes:
        apply: topology and fields -> the child, or the draft of it.
        transfer: parent, its weights, child and fields -> the child's weights.
        preserves: whether the child computes what the parent does.
    """

    name: str
    apply: Apply
    transfer: Transfer
    preserves: bool


edits = Registry[Edit]("an edit", "katib_flow.edits")
"""Every edit, by name."""


def edit(name: str, transfer: Transfer, *, preserves: bool) -> Callable[[Apply], Apply]:
    """Register an edit: what it makes of a topology, and of the weights."""

    def register(apply: Apply) -> Apply:
        edits.add(Edit(name, apply, transfer, preserves))
        return apply

    return register


def in_words(each: Fields) -> str:
    """An edit for a person: ``widen conv1, to 16``."""
    what, edge = str(each.get("edit", "edit")), str(each.get("edge", ""))
    rest = [
        f"{name} {len(value) if isinstance(value, list | tuple | dict) else value}"
        for name, value in each.items()
        if name not in ("edit", "edge", "seed") and value
    ]
    return ", ".join([f"{what} {edge}".strip(), *rest])


def edge_of(topology: Topology, key: str) -> FlatEdge:
    for each in topology.flat.live.edges:
        if each.key == key and not each.dead:
            return each
    known = [each.key for each in topology.flat.live.edges]
    raise SpecError("edge", key, f"an edge of the network: {', '.join(known)}{did_you_mean(key, known)}")


def ends_of(topology: Topology, each: Fields) -> tuple[str, str]:
    """The vertices ``src`` and ``dst`` of an edit, of which the second comes later."""
    src, dst = str(each["src"]), str(each["dst"])
    order = list(topology.flat.vertices)
    for name, vertex in (("src", src), ("dst", dst)):
        if vertex not in order:
            raise SpecError(name, vertex, f"a vertex: {', '.join(order)}{did_you_mean(vertex, order)}")
    if order.index(src) >= order.index(dst):
        raise SpecError("dst", dst, f"a vertex that comes after {src}")
    return src, dst


def new_key(topology: Topology, base: str, what: str) -> str:
    """A name that no edge has yet."""
    known = {each.key for each in topology.flat.edges}
    number = 1
    while f"{base}.{what}{number}" in known:
        number += 1
    return f"{base}.{what}{number}"


def shape_after(topology: Topology, edge: FlatEdge) -> layers.Shape:
    return flow(edge.layers, topology.shapes[edge.src])[-1]


def nonnegative(topology: Topology, edge: FlatEdge) -> bool:
    """Whether nothing that an edge gives can be negative."""
    for layer in reversed(edge.layers):
        if isinstance(layer, layers.Activation) and layer.name in ("relu", "relu6", "sigmoid"):
            return True
        if not isinstance(layer, HOMOGENEOUS):
            return False
    vertex = edge.src
    incoming = topology.flat.live.incoming.get(vertex, ())
    sums = topology.flat.vertices[vertex] in ("add", "mean", "concat", "mul", "primary")
    return bool(incoming) and sums and all(nonnegative(topology, each) for each in incoming)


def _carry(parent: Topology, weights: Weights, child: Topology, each: Fields) -> Weights:
    return carried(parent, weights, child)


@edit("prune", _carry, preserves=False)
def _prune(parent: Topology, each: Fields) -> Draft:
    """``{edit: prune, edge}``: an edge away; with it what then leads nowhere."""
    edge = edge_of(parent, each["edge"])
    draft = Draft.of(parent)
    draft.remove(edge.key)
    return draft


@edit("remove", _carry, preserves=False)
def _remove(parent: Topology, each: Fields) -> Draft:
    """``{edit: remove, edge}``: what comes to an edge goes on as it is."""
    edge = edge_of(parent, each["edge"])
    draft = Draft.of(parent)
    if len(parent.flat.live.incoming[edge.dst]) == 1 and edge.dst != parent.flat.output:
        draft.remove(edge.key)
        del draft.vertices[edge.dst]
        for reader in draft.edges:
            reader["src"] = edge.src if reader["src"] == edge.dst else reader["src"]
    else:
        draft.edge(edge.key).update({"op": "identity", "params": {}})
    return draft


@edit("set", _carry, preserves=False)
def _set(parent: Topology, each: Fields) -> Draft:
    """``{edit: set, edge, op, params}``: another operation on an edge; its weights are new where its layers are."""
    edge = edge_of(parent, each["edge"])
    draft = Draft.of(parent)
    draft.edge(edge.key).update({"op": each.get("op", edge.op), "params": dict(each.get("params", edge.params))})
    return draft


@edit("append", _carry, preserves=False)
def _append(parent: Topology, each: Fields) -> Draft:
    """``{edit: append, vertices, edges, redirect}``: vertices and edges more; edges that read one vertex read another.

    ``redirect``: {vertex: new vertex} for the edges that were there before.
    """
    draft = Draft.of(parent)
    for made in draft.edges:
        made["src"] = each.get("redirect", {}).get(made["src"], made["src"])
    draft.vertices |= dict(each.get("vertices", {}))
    draft.edges += [dict(made) for made in each.get("edges", ())]
    return draft
