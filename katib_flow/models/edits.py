"""The registry of edits, helpers that they share, and the edits that change the function of a network.

An edit has two parts: one changes a topology, by the edit's fields; the other transfers the weights. See ``morphisms``
for the edits that preserve the function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.models import layers
from katib_flow.models.draft import Draft, unknown_edge
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
"""From a topology and the fields of an edit to the child, or a draft of it."""
Transfer = Callable[[Topology, Weights, Topology, Fields], Weights]
"""From the parent, its weights, the child and the fields of an edit to the child's weights."""
HOMOGENEOUS = (layers.Pool, layers.GlobalMean, layers.Flatten)
"""Layers whose output is halved when their input is halved."""


@dataclass(frozen=True)
class Edit:
    """A registered edit.

    Attributes:
        apply: topology and fields -> the child, or the draft of it.
        transfer: parent, its weights, child and fields -> the child's weights.
        preserves: whether the child computes the same function as the parent.
    """

    name: str
    apply: Apply
    transfer: Transfer
    preserves: bool


edits = Registry[Edit]("an edit", "katib_flow.edits")
"""Every edit, by name."""


def edit(name: str, transfer: Transfer, *, preserves: bool) -> Callable[[Apply], Apply]:
    """Register a function as an edit; the arguments are those of ``Edit``."""

    def register(apply: Apply) -> Apply:
        edits.add(Edit(name, apply, transfer, preserves))
        return apply

    return register


def in_words(fields: Fields) -> str:
    """Describe an edit for a person: ``widen conv1, to 16``."""
    what, edge = str(fields.get("edit", "edit")), str(fields.get("edge", ""))
    rest = [
        f"{name} {len(value) if isinstance(value, list | tuple | dict) else value}"
        for name, value in fields.items()
        if name not in ("edit", "edge", "seed") and value
    ]
    return ", ".join([f"{what} {edge}".strip(), *rest])


def edge_of(topology: Topology, key: str) -> FlatEdge:
    """The live edge of a key.

    Raises:
        SpecError: the network has no such edge between input and output.
    """
    for edge in topology.flat.live.edges:
        if edge.key == key and not edge.dead:
            return edge
    raise unknown_edge(key, [edge.key for edge in topology.flat.live.edges])


def ends_of(topology: Topology, fields: Fields) -> tuple[str, str]:
    """The vertices ``src`` and ``dst`` of an edit.

    Raises:
        SpecError: one of them is unknown, or ``dst`` does not come after ``src``.
    """
    src, dst = str(fields["src"]), str(fields["dst"])
    order = list(topology.flat.vertices)
    for name, vertex in (("src", src), ("dst", dst)):
        if vertex not in order:
            raise SpecError(name, vertex, f"a vertex: {', '.join(order)}{did_you_mean(vertex, order)}")
    if order.index(src) >= order.index(dst):
        raise SpecError("dst", dst, f"a vertex that comes after {src}")
    return src, dst


def new_key(topology: Topology, base: str, what: str) -> str:
    """A key that no edge has: ``<base>.<what>1``, or the first number that is free."""
    known = {edge.key for edge in topology.flat.edges}
    number = 1
    while f"{base}.{what}{number}" in known:
        number += 1
    return f"{base}.{what}{number}"


def shape_after(topology: Topology, edge: FlatEdge) -> layers.Shape:
    """The shape of an edge's output, without the batch."""
    return flow(edge.layers, topology.shapes[edge.src])[-1]


def nonnegative(topology: Topology, edge: FlatEdge) -> bool:
    """Whether the output of an edge is never negative; False if that is not certain."""
    for layer in reversed(edge.layers):
        if isinstance(layer, layers.Activation) and layer.name in ("relu", "relu6", "sigmoid"):
            return True
        if not isinstance(layer, HOMOGENEOUS):
            return False
    vertex = edge.src
    incoming = topology.flat.live.incoming.get(vertex, ())
    sums = topology.flat.vertices[vertex] in ("add", "mean", "concat", "mul", "primary")
    return bool(incoming) and sums and all(nonnegative(topology, before) for before in incoming)


def _carry(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    return carried(parent, weights, child)


@edit("prune", _carry, preserves=False)
def _prune(parent: Topology, fields: Fields) -> Draft:
    """``{edit: prune, edge}``: remove an edge, and the parts of the network that then lead nowhere."""
    edge = edge_of(parent, fields["edge"])
    draft = Draft.of(parent)
    draft.remove(edge.key)
    return draft


@edit("remove", _carry, preserves=False)
def _remove(parent: Topology, fields: Fields) -> Draft:
    """``{edit: remove, edge}``: remove the operation of an edge, so that its input passes on unchanged."""
    edge = edge_of(parent, fields["edge"])
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
def _set(parent: Topology, fields: Fields) -> Draft:
    """``{edit: set, edge, op, params}``: change the operation of an edge; layers that are new get new weights."""
    edge = edge_of(parent, fields["edge"])
    draft = Draft.of(parent)
    draft.edge(edge.key).update({"op": fields.get("op", edge.op), "params": dict(fields.get("params", edge.params))})
    return draft


@edit("append", _carry, preserves=False)
def _append(parent: Topology, fields: Fields) -> Draft:
    """``{edit: append, vertices, edges, redirect}``: add vertices and edges.

    ``redirect``, {vertex: new vertex}, makes the existing edges that read a vertex read another one instead.
    """
    draft = Draft.of(parent)
    for edge in draft.edges:
        edge["src"] = fields.get("redirect", {}).get(edge["src"], edge["src"])
    draft.vertices |= dict(fields.get("vertices", {}))
    draft.edges += [dict(edge) for edge in fields.get("edges", ())]
    return draft
