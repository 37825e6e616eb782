"""Networks as sequences of tokens for an encoder: one token per layer, for any depth, or one per slot.

Paper: Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018 (layers).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from katib_flow.history import Value
from katib_flow.models import layers
from katib_flow.models.edits import shape_after
from katib_flow.models.topology import Topology
from katib_flow.nas.tokens import choices, encoded, value_of
from katib_flow.spec.model import Count
from katib_flow.spec.problems import problem
from katib_flow.spec.space import Assignment, SearchSpace


def _rising(levels: tuple[int, ...]) -> tuple[int, ...]:
    if any(one >= two for one, two in pairwise(levels)):
        raise problem("", list(levels), "numbers in ascending order")
    return levels


def _odd(kernels: tuple[int, ...]) -> tuple[int, ...]:
    if any(kernel % 2 == 0 for kernel in kernels):
        raise problem("", list(kernels), "odd numbers, because an even kernel has no middle")
    return kernels


Levels = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_rising)]
"""Levels of width, in ascending order."""
Kernels = Annotated[Levels, AfterValidator(_odd)]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of layers: a convolution by its width and kernel size, a dense layer by its width, and a pooling.

    Attributes:
        channels, features: levels of width of a convolution and of a dense layer, in ascending order.
        kernels: kernel sizes with tokens of their own; all other sizes share one.
    """

    channels: tuple[int, ...]
    features: tuple[int, ...]
    kernels: tuple[int, ...]

    @property
    def dense(self) -> int:
        """The first token of a dense layer; smaller tokens are those of convolutions."""
        return (len(self.channels) + 1) * (len(self.kernels) + 1)

    @property
    def pool(self) -> int:
        """The token of a pooling, which is the last one."""
        return self.dense + len(self.features) + 1

    def tokens(self, network: Topology) -> dict[str, int]:
        """The token of each layer of a network, by the key of its edge; the final classifier is left out."""
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
        """The next level of width for the layer of a token; 0 if it has the highest level, or is a pooling."""
        if token < self.dense:
            levels, level = self.channels, token // (len(self.kernels) + 1)
        else:
            levels, level = self.features, token - self.dense
        return levels[level] if token < self.pool and level < len(levels) else 0

    def blocks(self, tokens: Sequence[int]) -> list[list[int]]:
        """The positions of the layers of each block; blocks are separated by poolings, and empty ones are left out."""
        blocks: list[list[int]] = [[]]
        for position, token in enumerate(tokens):
            if token < self.pool:
                blocks[-1].append(position)
            else:
                blocks.append([])
        return [block for block in blocks if block]


Read = Sequence[tuple[str, int]]
"""Slots with the positions of their values."""


@dataclass(frozen=True)
class SlotTokens:
    """Tokens of slots: one for each value of a slot, or for each part of its range."""

    space: SearchSpace

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """The values of each slot as text; for a slot with a range, the numbers of its parts."""
        values: dict[str, list[str]] = {}
        for name, parameter in self.space.parameters.items():
            count, whole = choices(parameter), choices(parameter) == parameter.size
            values[name] = [str(parameter.nth(position) if whole else position) for position in range(count)]
        return values

    @cached_property
    def ends(self) -> list[int]:
        """For each slot, the first token after its own."""
        return list(accumulate(map(len, self.values.values())))

    @property
    def size(self) -> int:
        """The number of tokens."""
        return self.ends[-1]

    def tokens(self, assignment: Assignment) -> list[int]:
        """The tokens of the active slots of an assignment, in their order."""
        positions = zip([0, *self.ends], encoded(self.space, assignment), strict=False)
        return [start + position for start, position in positions if position >= 0]

    def read(self, tokens: Sequence[int]) -> Read:
        """The slots and the positions of their values that some tokens stand for."""
        names, starts = list(self.values), [0, *self.ends]
        slots = [bisect_right(self.ends, token) for token in tokens]
        return [(names[slot], token - starts[slot]) for slot, token in zip(slots, tokens, strict=True)]

    def read_by(self, slot: str) -> list[str]:
        """The nodes that the values of a slot name: for ``normal.2.in0``, ``normal.0`` and ``normal.1``."""
        cell, point, _ = node_of(slot).rpartition(".")
        return [f"{cell}{point}{value}" for value in self.values[slot]]

    def changed(self, assignment: Assignment, changes: Mapping[str, int], rng: np.random.Generator) -> dict[str, Value]:
        """An assignment after changes, by slot and position of the new value; slots that become active are drawn."""
        new: dict[str, Value] = {}
        for name, parameter in self.space.parameters.items():
            if self.space.is_active(name, new):
                kept = assignment[name] if name in assignment else parameter.at(float(rng.random()))
                new[name] = value_of(parameter, changes[name], rng) if name in changes else kept
        return new


def node_of(slot: str) -> str:
    """The node of a slot: ``normal.2`` for ``normal.2.in0``; a slot without a point is a node by itself."""
    return slot.rpartition(".")[0] or slot
