"""A hypernetwork, which writes weights from the code of an architecture: a provider for ``models.build``.

Paper: Brock et al., "SMASH", ICLR 2018, section 3.2: a fully convolutional network, densely connected, maps the code to
all 1 x 1 convolutions at once; a fixed random input next to the code distinguishes the positions.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from katib_flow.models.flat import FlatEdge
from katib_flow.models.layers import Conv, Layer, Shape
from katib_flow.models.modules import ChoiceWeights
from katib_flow.models.topology import Topology
from katib_flow.nas.relax.banks import BankConv, Bit, Grid

SLOPE = 0.02  # slope of the activation below zero
READ, WRITE, OWN = 0, 1, 2  # channels of the code, before those of operations


class Written(nn.Module):
    """A 1 x 1 convolution without weights of its own.

    Attributes:
        weight: the weights written last, shape (out, in, 1, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight: Tensor | None = None

    def forward(self, value: Tensor) -> Tensor:
        """Convolve with the written weights; an architecture must have been chosen before."""
        assert self.weight is not None, "no architecture has been chosen, so there are no weights"
        return nn.functional.conv2d(value, self.weight)


class Hypernetwork(nn.Module):
    """Writes the weights of the convolutions that read banks, each time an architecture is chosen.

    Args:
        growth: number of channels of each hidden layer.
        depth: number of layers before the last one.
    """

    def __init__(self, supernet: Topology, *, growth: int = 10, depth: int = 4) -> None:
        super().__init__()
        self.grid = Grid.from_supernet(supernet)
        self._written: dict[str, Written] = {}  # modules of the supernet, so they are not registered here
        channels = OWN + 1 + self.grid.operations + 1
        self.places: Tensor
        self.register_buffer("places", torch.randn(1, self.grid.rows, self.grid.columns))
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + number * growth, growth, 3, padding=1, bias=False) for number in range(depth)
        )
        self.last = nn.Conv2d(channels + depth * growth, self.grid.unit**2, 1, bias=False)
        for weight in self.parameters():
            nn.init.orthogonal_(weight)

    def module(self, edge: FlatEdge, layer: Layer, shape: Shape) -> nn.Module | None:
        """The module for a layer whose weights are written; None for any other layer."""
        if not isinstance(layer, Conv) or edge.key not in {conv.edge for conv in self.grid.convs}:
            return None
        return self._written.setdefault(edge.key, Written())

    def chosen(self, weights: Mapping[str, ChoiceWeights | None]) -> None:
        """Write the weights of an architecture, given by the weights of its choices."""
        for key, weight in self(self.code(weights)).items():
            self._written[key].weight = weight

    def code(self, weights: Mapping[str, ChoiceWeights | None]) -> Tensor:
        """The code of an architecture, shape (channel, row, column).

        The channels: the cells that are read, those that are written, all cells of a convolution, and one channel per
        operation, which marks the cells that are read or written if this operation follows.
        """
        code = self.last.weight.new_zeros(OWN + 1 + self.grid.operations, self.grid.rows, self.grid.columns)
        for conv, rows, columns in self.grid.slices():
            code[OWN, rows, columns] = 1
            code[READ, rows, columns] = self.reads(conv, weights)[:: self.grid.unit]
            width = conv.channels // self.grid.unit
            for number, bit in enumerate(conv.writes):
                code[WRITE, rows, number * width : (number + 1) * width] = _taken(bit, weights)
            touched = code[[READ, WRITE], rows].amax(dim=0)
            for group in conv.operations:
                for position in range(self.grid.operations):
                    code[OWN + 1 + position, rows] += _taken((group, position), weights) * touched
        return code

    def reads(self, conv: BankConv, weights: Mapping[str, ChoiceWeights | None]) -> Tensor:
        """1 for each input channel that a convolution reads, 0 for the others; shape (in,)."""
        counts = torch.tensor([width for width, _ in conv.reads])
        return self.last.weight.new_tensor([_taken(bit, weights) for _, bit in conv.reads]).repeat_interleave(counts)

    def forward(self, code: Tensor) -> dict[str, Tensor]:
        """The written weights, by edge; every filter has unit length over the channels that are read."""
        value = torch.cat([code, self.places])[None]
        for layer in self.layers:
            value = torch.cat([value, nn.functional.leaky_relu(layer(value), SLOPE)], dim=1)
        cells = self.last(value)[0].unflatten(0, (self.grid.unit, self.grid.unit))
        weights: dict[str, Tensor] = {}
        for conv, rows, columns in self.grid.slices():
            block = cells[:, :, rows, columns].permute(2, 0, 3, 1).reshape(conv.channels, conv.inputs)
            block = block * code[READ, rows, columns][0].repeat_interleave(self.grid.unit)
            weights[conv.edge] = nn.functional.normalize(block, dim=1)[:, :, None, None]
        return weights


def _taken(bit: Bit, weights: Mapping[str, ChoiceWeights | None]) -> float:
    """The weight with which a bank is read or written: 1 or 0 for an exact choice."""
    if bit is None:
        return 1.0
    group, position = bit
    choices = weights[group]
    return float(choices[position]) if choices is not None and position < len(choices) else 0.0
