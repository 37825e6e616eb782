"""Optional edges of a supernet: where they are allowed, and which weights after them depend on them.

An optional edge that is left out gives zeros. This equals the network without the edge only if zeros add nothing: in a
sum, and in a concatenation read by convolutions, whose weights for the channels of the edge then have no effect.
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
    """The input channels that the readers of a concatenation get from an optional edge.

    Attributes:
        readers: the edges that read the concatenation.
        gates: for each group, the positions of the choices that keep the optional edge.
        start, stop: the range of its channels.
    """

    readers: tuple[FlatEdge, ...]
    gates: tuple[tuple[str, frozenset[int]], ...]
    start: int
    stop: int

    def is_read(self, child: Mapping[str, int]) -> bool:
        """Whether an architecture, given as the position of its choice for each group, has the optional edge."""
        return all(child[group] in positions for group, positions in self.gates)


def optional_groups(flat: Flat) -> dict[str, int]:
    """The groups that only say whether an edge is there, with the position of the choice to keep it."""
    layers = [layer for edge in flat.edges for layer in optional_layers(edge)]
    return {layer.group: layer.names.index("in") for layer in layers if sorted(layer.names) == ["in", "out"]}


def optional_layers(edge: FlatEdge) -> list[Mixed]:
    """The layers of an edge that may be left out; empty for most edges."""
    return [layer for layer in edge.layers if isinstance(layer, Mixed) and any(map(_nothing, layer.paths))]


def _nothing(path: Sequence[Layer]) -> bool:
    return len(path) == 1 and isinstance(path[0], Zero) and path[0].like is not None


def check_optional(flat: Flat) -> None:
    """Check that zeros from an optional edge always equal the network without the edge.

    Raises:
        SpecError: an optional edge leads to a vertex where they do not; see the module.
    """
    for edge in flat.edges:
        if not optional_layers(edge):
            continue
        merge = flat.vertices[edge.dst]
        if merge not in (SUM, *STACKS):
            need = f"one of {', '.join((SUM, *STACKS))}, because its incoming edge {edge.key} may be left out"
            raise SpecError(f"vertex {edge.dst}", merge, need)
        bad = [
            reader for reader in readers(flat, edge.dst) if merge in STACKS and not _begins_with_weights(reader.layers)
        ]
        if bad:
            need = f"a convolution, because it reads the stack {edge.dst}, whose edge {edge.key} may be left out"
            raise SpecError(f"edge {bad[0].key}", bad[0].op, need)


def readers(flat: Flat, vertex: str) -> Iterator[FlatEdge]:
    """The edges that read a vertex, directly or through identities."""
    for edge in flat.outgoing[vertex]:
        if edge.layers or len(flat.incoming[edge.dst]) > 1:
            yield edge
        else:
            yield from readers(flat, edge.dst)


def _begins_with_weights(layers: Sequence[Layer]) -> bool:
    """Whether the first layer with weights gets zeros where the input has them, and mixes all input channels.

    Normalisation keeps zeros, because a supernet's has no shift.
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
    """The input channels that have no effect if an optional edge is left out."""
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
    """The targets that regularise optional edges: for each group, its position, a distribution and a weight.

    Args:
        rate: the share of optional edges that should be kept, from 0 to 1.
        weight: strength of the regularisation; that of each group is divided by the number of vertices that have
            optional edges.
    """
    positions, slots = optional_groups(flat), list(flat.groups)
    vertices = {edge.dst for edge in flat.edges for layer in optional_layers(edge) if layer.group in positions}
    return tuple(
        (slots.index(slot), (1 - rate, rate) if position else (rate, 1 - rate), weight / len(vertices))
        for slot, position in positions.items()
    )
