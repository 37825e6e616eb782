"""The convolutions of a supernet whose weights a hypernetwork writes, and the layout of the code that it reads.

Paper: Brock et al., "SMASH", ICLR 2018, section 3.1. A network is a memory of *banks*, groups of channels; an operation
reads some of them, concatenated, through a 1 x 1 convolution, and writes to some. The code of an architecture has a row
of cells for every ``unit`` output channels of such a convolution, and a column for every ``unit`` possible inputs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from katib_flow.models.flat import Flat, FlatEdge
from katib_flow.models.layers import Conv, Mixed, flow
from katib_flow.models.optional import STACKS, optional_groups, optional_layers, readers
from katib_flow.models.topology import Topology

Bit = tuple[str, int] | None
"""The group and the position of the choice that makes a convolution read or write a bank; None if it always does."""


@dataclass(frozen=True)
class BankConv:
    """A 1 x 1 convolution that reads banks.

    Attributes:
        edge: the key of its edge.
        channels: number of output channels.
        reads: for each concatenated input, in order, its number of channels and when it is read.
        writes: for each possible destination of the output, when it is written.
        operations: the groups of the operations that follow the convolution.
    """

    edge: str
    channels: int
    reads: tuple[tuple[int, Bit], ...]
    writes: tuple[Bit, ...]
    operations: tuple[str, ...]

    @property
    def inputs(self) -> int:
        """The number of input channels, read or not."""
        return sum(channels for channels, _ in self.reads)


def bank_convs(supernet: Topology) -> tuple[BankConv, ...]:
    """The convolutions of a supernet that read a concatenation of edges, some of which are optional."""
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
    """Whether all weights of an edge are those of a single 1 x 1 convolution, not shared with another edge."""
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
    """The groups of the operations that follow a convolution, and the edges by which they write."""
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
    """The layout of the code of an architecture: the cells of each convolution.

    Attributes:
        convs: the convolutions, from the first row on.
        unit: number of channels per cell.
        rows, columns: number of rows and columns of cells.
        operations: the largest number of choices of an operation; each choice has a channel in the code.
    """

    convs: tuple[BankConv, ...]
    unit: int
    rows: int
    columns: int
    operations: int

    @classmethod
    def from_supernet(cls, supernet: Topology) -> "Grid":
        """The smallest grid that has room for all convolutions of a supernet that read banks."""
        convs = bank_convs(supernet)
        unit = math.gcd(*(size for conv in convs for size in (conv.channels, *(width for width, _ in conv.reads))))
        choices = [len(supernet.flat.groups[group]) for conv in convs for group in conv.operations]
        rows = sum(conv.channels for conv in convs) // unit
        columns = max(max(conv.inputs, len(conv.writes) * conv.channels) for conv in convs) // unit
        return cls(convs, unit, rows, columns, max(choices, default=0))

    def slices(self) -> Iterator[tuple[BankConv, slice, slice]]:
        """Each convolution with its rows and its columns."""
        row = 0
        for conv in self.convs:
            end = row + conv.channels // self.unit
            yield conv, slice(row, end), slice(0, conv.inputs // self.unit)
            row = end
