"""A network of any depth as a sequence of tokens, one for each layer, in the order in which they are computed.

Paper: Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018, section 3.1.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field

from katib_flow.models import layers
from katib_flow.models.edits import shape_after
from katib_flow.models.topology import Topology
from katib_flow.spec.model import Count
from katib_flow.spec.problems import problem


def _rising(levels: tuple[int, ...]) -> tuple[int, ...]:
    if any(one >= two for one, two in pairwise(levels)):
        raise problem("", list(levels), "rising numbers")
    return levels


def _odd(kernels: tuple[int, ...]) -> tuple[int, ...]:
    if any(kernel % 2 == 0 for kernel in kernels):
        raise problem("", list(kernels), "odd numbers: an even kernel has no middle")
    return kernels


Levels = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_rising)]
"""Of a width."""
Kernels = Annotated[Levels, AfterValidator(_odd)]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of layers: a convolution by its level of width and its kernel, a dense layer by its level, a pooling.

    Attributes:
        channels, features: the levels of width of a convolution and of a dense layer, rising.
        kernels: that are told apart; all others are one.
    """

    channels: tuple[int, ...]
    features: tuple[int, ...]
    kernels: tuple[int, ...]

    @property
    def dense(self) -> int:
        """The first token of a dense layer; those of convolutions are before it."""
        return (len(self.channels) + 1) * (len(self.kernels) + 1)

    @property
    def pool(self) -> int:
        """The last token."""
        return self.dense + len(self.features) + 1

    def tokens(self, network: Topology) -> dict[str, int]:
        """The token of each layer of a network, by its edge; the classifier at its end has none."""
        tokens: dict[str, int] = {}
        flat = network.flat.live
        for edge in flat.edges:
            if edge.dead:
                continue
            sides = [max(layer.kernel) for layer in edge.layers if isinstance(layer, layers.Conv)]
            before, after = network.shapes[edge.src], shape_after(network, edge)
            if sides:
                tokens[edge.key] = self._convolution(after[0], max(sides))
            elif any(isinstance(layer, layers.Linear) for layer in edge.layers):
                if edge.dst != flat.output:
                    tokens[edge.key] = self.dense + bisect_right(self.features, after[0])
            elif len(after) == 3 and after[1] < before[1]:
                tokens[edge.key] = self.pool
        return tokens

    def _convolution(self, width: int, kernel: int) -> int:
        known = self.kernels.index(kernel) if kernel in self.kernels else len(self.kernels)
        return bisect_right(self.channels, width) * (len(self.kernels) + 1) + known

    def wider(self, token: int) -> int:
        """The next level of a layer's width; 0 where there is none."""
        if token < self.dense:
            levels, level = self.channels, token // (len(self.kernels) + 1)
        else:
            levels, level = self.features, token - self.dense
        return levels[level] if token < self.pool and level < len(levels) else 0

    def blocks(self, tokens: Sequence[int]) -> list[list[int]]:
        """The positions of the layers between poolings, of each block that has any."""
        blocks: list[list[int]] = [[]]
        for position, token in enumerate(tokens):
            if token < self.pool:
                blocks[-1].append(position)
            else:
                blocks.append([])
        return [block for block in blocks if block]
