"""Distinct assignments from a stream of points of the unit cube, so that a finite space is covered exactly once.

Random search and Sobol replay the same stream at every call: the assignment at an index depends only on the seed and
the index. Only a memo of the replay is kept. All other algorithms avoid repeated trials by means of ``Known``.
"""

import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from katib_flow.algorithms.registry import Ask, identity
from katib_flow.history import Suggestion, Trial, Value
from katib_flow.spec.space import Assignment, SearchSpace, Units

if TYPE_CHECKING:
    from katib_flow.models.space import Space

PATIENCE = 64  # consecutive known assignments, before the rest of the space is enumerated instead
MOST_ALIKE = 10_000  # consecutive assignments that give known networks, before the space counts as used up
P = TypeVar("P")


class DistinctStream:
    """The assignments of a finite space, in the order in which a stream of points reaches them."""

    def __init__(
        self, space: SearchSpace, points: Iterator[Units], seed: int, architectures: "Space | None" = None
    ) -> None:
        self._space, self._points, self._seed, self._architectures = space, points, seed, architectures
        self._assignments: list[Assignment] = []
        self._stream = self._distinct()
        self._lock = threading.Lock()

    def suggestions(self, indices: range) -> list[Suggestion]:
        """The suggestions at some indices; fewer if the space has no more assignments."""
        with self._lock:
            self._assignments += itertools.islice(self._stream, max(0, indices.stop - len(self._assignments)))
        return [
            Suggestion(index, dict(self._assignments[index])) for index in indices if index < len(self._assignments)
        ]

    def _distinct(self) -> Iterator[Assignment]:
        seen: set[Hashable] = set()
        in_vain = 0
        for point in self._points:
            assignment = self._space.decode(point)
            key = self._key(assignment)
            in_vain = in_vain + 1 if key in seen else 0
            if not in_vain:
                seen.add(key)
                yield assignment
            if in_vain == PATIENCE or len(seen) == self._space.size:
                break
        yield from self._rest(seen)

    def _rest(self, seen: set[Hashable]) -> Iterator[Assignment]:
        """The assignments that the stream has not reached, in a random order."""
        size, in_vain = self._space.size or 0, 0
        everything = scattered(self._space, np.random.default_rng((self._seed, len(seen)))) if len(seen) < size else ()
        for assignment in everything:
            key = self._key(assignment)
            in_vain = in_vain + 1 if key in seen else 0
            if not in_vain:
                seen.add(key)
                yield assignment
            if len(seen) == size or in_vain > len(seen) + MOST_ALIKE:
                return

    def _key(self, assignment: Assignment) -> Hashable:
        return identity(self._space, self._architectures, assignment)


def scattered(space: SearchSpace, rng: np.random.Generator) -> Iterator[dict[str, Value]]:
    """Every assignment of a finite space once, in equal strides through their list, which is never built."""
    size = space.size
    assert size, "only a finite space can be enumerated"
    start, stride = (int(number) for number in rng.integers(1 << 62, size=2))
    while math.gcd(stride, size) != 1:  # coprime, so that the strides reach every assignment
        stride += 1
    return (space.nth((start + step * stride) % size) for step in range(size))


@dataclass
class Known:
    """The assignments that have been tried or suggested, so that none is tried twice.

    In a search for architectures, assignments that give the same network count as one.

    Attributes:
        trials: the index of the trial of each known assignment, by its ``key``.
    """

    space: SearchSpace
    key: Callable[[Assignment], Hashable]
    trials: dict[Hashable, int]

    @classmethod
    def from_ask(cls, ask: Ask[Any], trials: Iterable[Trial] | None = None) -> "Known":
        """The assignments of some trials, by default of the whole history."""
        tried = ask.history if trials is None else trials
        return cls(ask.space, ask.key, {ask.key(trial.assignment): trial.index for trial in tried})

    def take(self, assignment: Assignment, index: int) -> None:
        """Mark an assignment as known."""
        self.trials[self.key(assignment)] = index

    def suggestions(self, indices: Iterable[int], propose: Callable[[int], Suggestion | None]) -> list[Suggestion]:
        """The proposals for some indices, up to the first index without one; each is known to those after it."""
        suggestions: list[Suggestion] = []
        for index in indices:
            suggestion = propose(index)
            if suggestion is None:
                break
            self.take(suggestion.assignment, index)
            suggestions.append(suggestion)
        return suggestions

    def trial(self, assignment: Assignment) -> int:
        """The index of the trial that tried a known assignment."""
        return self.trials[self.key(assignment)]

    def first(self, proposals: Iterable[tuple[Assignment, P]]) -> tuple[dict[str, Value], P] | None:
        """The first proposal whose assignment is not known; None if all are.

        A generator is asked for its next proposal only if the one before it was known.

        Args:
            proposals: assignments, each with anything that belongs to it.
        """
        return next(
            ((dict(assignment), more) for assignment, more in proposals if self.key(assignment) not in self.trials),
            None,
        )

    def drawn(self, rng: np.random.Generator) -> dict[str, Value] | None:
        """A random assignment that is not known; None if a finite space is used up.

        In an infinite space in which nearly every draw is known, the result may be known as well.
        """
        if new := self.first((self.space.draw(rng), None) for _ in range(PATIENCE)):
            return new[0]
        drawn = self.space.draw(rng)
        if self.space.size is None:
            return drawn
        rest = itertools.islice(scattered(self.space, rng), len(self.trials) + MOST_ALIKE)
        return next((assignment for assignment in rest if self.key(assignment) not in self.trials), None)
