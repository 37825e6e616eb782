"""Edges of a supernet that are there or not: where they may stand, and what they leave of the weights after them.

An edge that is out gives zeros. That is the network without the edge where zeros add nothing: in a sum, and in a stack
that convolutions read, whose input channels from this edge then do nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from katib_flow.errors import SpecError
from katib_flow.models.flat import Flat, FlatEdge
from katib_flow.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    GlobalMean,
    Layer,
    Linear,
    Mixed,
    Pool,
    Shape,
    Zero,
    flow,
)

SUM, STACKS = "add", ("concat", "pad-concat")
_KEEP_ZERO = ("relu", "relu6", "tanh", "silu")
_KEEP = (BatchNorm, Pool, GlobalMean)


@dataclass(frozen=True)
class Block:
    """Input channels of the edges that read a stack, which come through an edge that may be out.

    Attributes:
        readers: the edges.
        gates: the choices by which the edge is in: of each group, their positions.
        start, stop: of the channels.
    """

    readers: tuple[FlatEdge, ...]
    gates: tuple[tuple[str, frozenset[int]], ...]
    start: int
    stop: int

    def is_read(self, child: Mapping[str, int]) -> bool:
        """Whether the edge is in, in an architecture: the position of its choice of each group."""
        return all(child[group] in positions for group, positions in self.gates)


def optional_groups(flat: Flat) -> dict[str, int]:
    """The groups that say whether an edge is there, and nothing else -> the position of the choice that it is."""
    layers = [layer for edge in flat.edges for layer in optional_layers(edge)]
    return {layer.group: layer.names.index("in") for layer in layers if sorted(layer.names) == ["in", "out"]}


def optional_layers(edge: FlatEdge) -> list[Mixed]:
    """What of an edge may be there or not; none of most."""
    return [layer for layer in edge.layers if isinstance(layer, Mixed) and any(map(_nothing, layer.paths))]


def _nothing(path: Sequence[Layer]) -> bool:
    return len(path) == 1 and isinstance(path[0], Zero) and path[0].like is not None


def check_optional(flat: Flat) -> None:
    """Raise SpecError where an edge that may be out stands so that zeros are not the network without it."""
    for edge in flat.edges:
        if not optional_layers(edge):
            continue
        merge = flat.vertices[edge.dst]
        if merge not in (SUM, *STACKS):
            need = f"one of {', '.join((SUM, *STACKS))}, because edge {edge.key} into it may be left out"
            raise SpecError(f"vertex {edge.dst}", merge, need)
        bad = [each for each in readers(flat, edge.dst) if merge in STACKS and not _begins_with_weights(each.layers)]
        if bad:
            need = f"a convolution: it reads the stack {edge.dst}, of which edge {edge.key} may be left out"
            raise SpecError(f"edge {bad[0].key}", bad[0].op, need)


def readers(flat: Flat, vertex: str) -> Iterator[FlatEdge]:
    """The edges that read a vertex, by way of identities alone or at once."""
    for edge in flat.outgoing[vertex]:
        if edge.layers or len(flat.incoming[edge.dst]) > 1:
            yield edge
        else:
            yield from readers(flat, edge.dst)


def _begins_with_weights(layers: Sequence[Layer]) -> bool:
    """Whether zeros that come in on some channels change nothing, and every channel that comes out is of all.

    Normalisation keeps zeros, because that of a supernet has no shift.
    """
    for layer in layers:
        if isinstance(layer, Mixed):
            return all(map(_begins_with_weights, layer.paths))
        if isinstance(layer, Conv | Linear):
            return isinstance(layer, Linear) or layer.groups == 1
        if not (isinstance(layer, _KEEP) or (isinstance(layer, Activation) and layer.name in _KEEP_ZERO)):
            return False
    return False


def blocks(flat: Flat, shapes: Mapping[str, Shape]) -> Iterator[Block]:
    """The input channels that do nothing where an edge is out."""
    for vertex, merge in flat.vertices.items():
        start = 0
        for edge in flat.incoming[vertex] if merge in STACKS else ():
            stop = start + flow(edge.layers, shapes[edge.src])[-1][0]
            if gates := tuple((layer.group, _there(layer)) for layer in optional_layers(edge)):
                yield Block(tuple(readers(flat, vertex)), gates, start, stop)
            start = stop


def _there(layer: Mixed) -> frozenset[int]:
    return frozenset(position for position, path in enumerate(layer.paths) if not _nothing(path))


def pulled(flat: Flat, rate: float, weight: float) -> tuple[tuple[int, tuple[float, ...], float], ...]:
    """The groups of edges that may be out, by position, each with the distribution that it is drawn towards, and how
    strongly.

    Args:
        rate: how many of the edges should be there.
        weight: of all edges into a vertex, as a mean over the vertices that have such edges.
    """
    positions, slots = optional_groups(flat), list(flat.groups)
    vertices = {edge.dst for edge in flat.edges for layer in optional_layers(edge) if layer.group in positions}
    return tuple(
        (slots.index(slot), (1 - rate, rate) if position else (rate, 1 - rate), weight / len(vertices))
        for slot, position in positions.items()
    )
