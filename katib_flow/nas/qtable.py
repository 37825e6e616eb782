"""A table of what decisions are worth, learnt from whole sequences of them by Q-learning.

Papers: Watkins and Dayan, "Q-learning", Machine Learning 1992; Baker et al., "Designing Neural Network Architectures
using Reinforcement Learning", ICLR 2017 (replay of earlier sequences, updates from the last decision back).

A decision is a token: the position of a slot's value, -1 where the slot is inactive. A state is what is known when a
slot is decided on: the tokens of its own layer so far and those of the layer before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from katib_flow.nas.tokens import IsActive

State = tuple[int, ...]
"""The position of a slot, the tokens of its layer before it, and the tokens of the layer before."""
Shaping = Literal["even", "none"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Slots:
    """The slots of a sequence, by layer.

    Attributes:
        counts: values of each slot.
        layers: the layer of each slot, from 0.
    """

    counts: tuple[int, ...]
    layers: tuple[int, ...]

    @classmethod
    def named(cls, names: Sequence[str], counts: Sequence[int]) -> "Slots":
        """Slots in a row whose names agree up to the last point, such as ``2.kind`` and ``2.first``, are one layer."""
        layers: list[int] = []
        for layer, (_, group) in enumerate(groupby(names, key=lambda name: name.rpartition(".")[0] or name)):
            layers += [layer] * len(list(group))
        return cls(tuple(counts), tuple(layers))

    def state(self, slot: int, before: Sequence[int]) -> State:
        """The state in which a slot is decided on after some tokens."""
        near = (self.layers[slot], self.layers[slot] - 1)
        return (slot, *(int(before[other]) for other in range(slot) if self.layers[other] in near))


@dataclass
class QTable:
    """A policy that chooses what is worth most, or anything, with probability ``epsilon``.

    Attributes:
        rate: how far a value moves towards what was learnt, alpha.
        discount: of what later decisions are worth, gamma.
        shaping: whether every decision has an even share of the reward (Zhong et al., 2018), or only the last has it.
        values: of each state that was learnt, what every token is worth; others are worth 0.
    """

    slots: Slots
    rate: float
    discount: float = 1.0
    shaping: Shaping = "even"
    epsilon: float = 1.0
    values: dict[State, list[float]] = field(default_factory=dict[State, list[float]])

    def sample(
        self, rng: np.random.Generator, count: int = 1, is_active: IsActive = lambda *_: True
    ) -> NDArray[np.intp]:
        """Decide ``count`` times on every slot, one after the other; tokens of shape (sequence, slot)."""
        rows: list[list[int]] = []
        for row in range(count):
            tokens: list[int] = []
            for slot in range(len(self.slots.counts)):
                tokens.append(self._decided(slot, tokens, rng) if is_active(row, slot, tokens) else -1)
            rows.append(tokens)
        return np.array(rows, dtype=np.intp)

    def _decided(self, slot: int, before: Sequence[int], rng: np.random.Generator) -> int:
        count, worth = self.slots.counts[slot], self.values.get(self.slots.state(slot, before))
        if worth is None or rng.random() < self.epsilon:
            return int(rng.integers(count))
        return int(rng.choice(np.flatnonzero(np.equal(worth, max(worth)))))

    def learn(self, tokens: Sequence[int], reward: float) -> None:
        """Take a sequence and its reward in, from its last decision back."""
        steps = [(slot, token) for slot, token in enumerate(tokens) if token >= 0]
        share = reward / len(steps) if self.shaping == "even" else 0.0
        following = 0.0  # the most that what follows is worth
        for position, (slot, token) in reversed(list(enumerate(steps))):
            last = position == len(steps) - 1
            target = reward if last else share + self.discount * following
            worth = self.values.setdefault(self.slots.state(slot, tokens), [0.0] * self.slots.counts[slot])
            worth[token] += self.rate * (target - worth[token])
            following = max(worth)


Rows = list[tuple[State, list[Finite]]]
_ROWS = TypeAdapter(Rows)


def packed(table: QTable) -> Rows:
    """The values of a table as plain data, in the order of its states."""
    return sorted(table.values.items())


def unpacked(table: QTable, rows: object) -> None:
    """Put values that were packed into a table of the same slots.

    Raises:
        ValueError: they are not those of such a table.
    """
    values = dict(_ROWS.validate_python(rows))
    for state, worth in values.items():
        if not state or not 0 <= state[0] < len(table.slots.counts) or len(worth) != table.slots.counts[state[0]]:
            raise ValueError(f"not a state of this table: {state}")
    table.values = values
