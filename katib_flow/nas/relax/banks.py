"""Convolutions of a supernet whose weights another network writes: which they are, and the code that it writes from.

Paper: Brock et al., "SMASH", ICLR 2018, section 3.1. A network is a memory of *banks*, stacks of channels; an operation
reads some of them, stacked, through a 1 x 1 convolution, and writes to some. The code of an architecture has a row of
cells for every ``unit`` channels that such a convolution gives, and a column for every ``unit`` of those it may read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from katib_flow.models.flat import Flat, FlatEdge
from katib_flow.models.layers import Conv, Mixed, flow
from katib_flow.models.optional import STACKS, optional_groups, optional_layers, readers
from katib_flow.models.topology import Topology

Bit = tuple[str, int] | None
"""The group, and the position of its choice, by which something is read or written; None where it always is."""


@dataclass(frozen=True)
class BankConv:
    """A 1 x 1 convolution that reads banks.

    Attributes:
        edge: its key.
        channels: that it gives.
        reads: of what is stacked, in its order, how many channels each has and when it is read.
        writes: when what follows the convolution is written, for each place where it may be.
        operations: the groups of the operations that follow it.
    """

    edge: str
    channels: int
    reads: tuple[tuple[int, Bit], ...]
    writes: tuple[Bit, ...]
    operations: tuple[str, ...]

    @property
    def inputs(self) -> int:
        return sum(channels for channels, _ in self.reads)


def bank_convs(supernet: Topology) -> tuple[BankConv, ...]:
    """The convolutions of a supernet that read stacks of which some edges may be out, by slots of their own."""
    flat, bits = supernet.flat.live, optional_groups(supernet.flat.live)
    convolutions: list[BankConv] = []
    for vertex, merge in flat.vertices.items():
        incoming = flat.incoming[vertex] if merge in STACKS else ()
        if not any(_bit(edge, bits) for edge in incoming):
            continue
        widths = (flow(edge.layers, supernet.shapes[edge.src])[-1][0] for edge in incoming)
        reads = tuple(zip(widths, (_bit(edge, bits) for edge in incoming), strict=True))
        for edge in readers(flat, vertex):
            if writable(edge):
                operations, writes = _after(flat, edge)
                channels = supernet.shapes[edge.dst][0]
                written = tuple(_bit(write, bits) for write in writes)
                convolutions.append(BankConv(edge.key, channels, reads, written, operations))
    return tuple(convolutions)


def writable(edge: FlatEdge) -> bool:
    """Whether the only weights of an edge are those of one 1 x 1 convolution, which it shares with no other edge."""
    convolutions = [layer for layer in edge.layers if isinstance(layer, Conv)]
    plain = all(
        layer.kernel == (1, 1) and layer.stride == layer.groups == 1 and not layer.bias for layer in convolutions
    )
    return plain and len(convolutions) == 1 and edge.weights == edge.key


def _bit(edge: FlatEdge, bits: dict[str, int]) -> Bit:
    for layer in optional_layers(edge):
        if layer.group in bits:
            return layer.group, bits[layer.group]
    return None


def _after(flat: Flat, edge: FlatEdge) -> tuple[tuple[str, ...], list[FlatEdge]]:
    """The groups of the operations that follow a convolution, and the edges from these to where they write."""
    operations: list[str] = []
    writes: list[FlatEdge] = []
    for after in flat.outgoing[edge.dst]:
        groups = [layer.group for layer in after.layers if isinstance(layer, Mixed)]
        if groups and not optional_layers(after):
            operations += groups
            writes += flat.outgoing[after.dst]
        else:
            writes.append(after)
    return tuple(operations), sorted(writes, key=lambda write: write.key)


@dataclass(frozen=True)
class Grid:
    """Where the cells of each convolution lie in the code of an architecture.

    Attributes:
        unit: channels of a cell.
        rows, columns: how many there are.
        operations: the largest number of choices of an operation, each of which has a channel of the code.
    """

    convs: tuple[BankConv, ...]
    unit: int
    rows: int
    columns: int
    operations: int

    @classmethod
    def of(cls, supernet: Topology) -> "Grid":
        convs = bank_convs(supernet)
        unit = math.gcd(*(size for conv in convs for size in (conv.channels, *(width for width, _ in conv.reads))))
        choices = [len(supernet.flat.groups[group]) for conv in convs for group in conv.operations]
        rows = sum(conv.channels for conv in convs) // unit
        columns = max(max(conv.inputs, len(conv.writes) * conv.channels) for conv in convs) // unit
        return cls(convs, unit, rows, columns, max(choices, default=0))

    def places(self) -> Iterator[tuple[BankConv, slice, slice]]:
        """The rows and the columns of each convolution."""
        row = 0
        for conv in self.convs:
            end = row + conv.channels // self.unit
            yield conv, slice(row, end), slice(0, conv.inputs // self.unit)
            row = end
