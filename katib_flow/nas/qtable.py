"""A table of the values of decisions, learnt from whole sequences by Q-learning.

Papers: Watkins and Dayan, "Q-learning", Machine Learning 1992; Baker et al., "Designing Neural Network Architectures
using Reinforcement Learning", ICLR 2017 (replay of earlier sequences, updates from the last decision back).

A decision is a token: the position of a slot's value, -1 if the slot is inactive. The state of a decision consists of
the tokens of the slot's own layer so far and those of the layer before.
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
"""The position of a slot, followed by the tokens of the layer before and those of its own layer so far."""
Shaping = Literal["even", "none"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Slots:
    """The slots of a sequence, by layer.

    Attributes:
        counts: number of values of each slot.
        layers: the layer of each slot, from 0.
    """

    counts: tuple[int, ...]
    layers: tuple[int, ...]

    @classmethod
    def named(cls, names: Sequence[str], counts: Sequence[int]) -> "Slots":
        """Consecutive slots with names equal up to the last point, as ``2.kind`` and ``2.first``, form a layer."""
        layers: list[int] = []
        for layer, (_, group) in enumerate(groupby(names, key=lambda name: name.rpartition(".")[0] or name)):
            layers += [layer] * len(list(group))
        return cls(tuple(counts), tuple(layers))

    def state(self, slot: int, before: Sequence[int]) -> State:
        """The state of the decision on a slot, after some tokens."""
        near = (self.layers[slot], self.layers[slot] - 1)
        return (slot, *(int(before[other]) for other in range(slot) if self.layers[other] in near))


@dataclass
class QTable:
    """An epsilon-greedy policy: the decision with the highest value, or a random one with probability ``epsilon``.

    Attributes:
        rate: learning rate alpha.
        discount: discount gamma of later decisions.
        shaping: even, every decision gets the same share of the reward (Zhong et al., 2018); none, only the last one
            gets it.
        values: the value of each token in each state learnt so far; other values are 0.
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
        """Draw ``count`` sequences, slot by slot; shape (count, slot)."""
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
        """Learn from a sequence and its reward, from the last decision back."""
        steps = [(slot, token) for slot, token in enumerate(tokens) if token >= 0]
        share = reward / len(steps) if self.shaping == "even" else 0.0
        following = 0.0  # the highest value in the next state
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
    """Load packed values into a table with the same slots.

    Raises:
        ValueError: the values do not fit the table.
    """
    values = dict(_ROWS.validate_python(rows))
    for state, worth in values.items():
        if not state or not 0 <= state[0] < len(table.slots.counts) or len(worth) != table.slots.counts[state[0]]:
            raise ValueError(f"not a state of this table: {state}")
    table.values = values
