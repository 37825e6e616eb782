"""A stream of points of the unit cube -> distinct assignments, so that a finite space is covered exactly once.

Random search and Sobol read the same stream whenever they are asked: what stands at an index depends on the seed and
the index alone. Nothing is kept but a memo of the replay. ``Known`` is what every other algorithm proposes against.
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

PATIENCE = 64  # known assignments in a row, before what is left is gone through instead
MOST_ALIKE = 10_000  # decisions looked at that all make known networks, before a space is taken to be used up
P = TypeVar("P")


class DistinctStream:
    """The assignments of a finite space in the order in which a stream of points comes upon them."""

    def __init__(
        self, space: SearchSpace, points: Iterator[Units], seed: int, architectures: "Space | None" = None
    ) -> None:
        self._space, self._points, self._seed, self._architectures = space, points, seed, architectures
        self._found: list[Assignment] = []
        self._stream = self._distinct()
        self._lock = threading.Lock()

    def suggestions(self, indices: range) -> list[Suggestion]:
        """What stands at some indices; fewer where the space has no more."""
        with self._lock:
            self._found += itertools.islice(self._stream, max(0, indices.stop - len(self._found)))
        return [Suggestion(index, dict(self._found[index])) for index in indices if index < len(self._found)]

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
        """What has not been seen."""
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
    """All of a finite space, each once, in equal strides through the list of all, which is never made."""
    size = space.size
    assert size, "only a finite space can be gone through"
    start, stride = (int(number) for number in rng.integers(1 << 62, size=2))
    while math.gcd(stride, size) != 1:  # so that the strides come by everywhere
        stride += 1
    return (space.nth((start + step * stride) % size) for step in range(size))


@dataclass
class Known:
    """What has been tried, or is about to be, so that nothing is tried twice.

    Where architectures are searched, decisions that make one network are one point.

    Attributes:
        trials: index of the trial that tried it, by ``key``.
    """

    space: SearchSpace
    key: Callable[[Assignment], Hashable]
    trials: dict[Hashable, int]

    @classmethod
    def of(cls, ask: Ask[Any], trials: Iterable[Trial] | None = None) -> "Known":
        """What some trials tried, those of the history where none are given."""
        tried = ask.history if trials is None else trials
        return cls(ask.space, ask.key, {ask.key(trial.assignment): trial.index for trial in tried})

    def take(self, assignment: Assignment, index: int) -> None:
        """From now on it is known."""
        self.trials[self.key(assignment)] = index

    def suggestions(self, indices: Iterable[int], propose: Callable[[int], Suggestion | None]) -> list[Suggestion]:
        """What is proposed for each index, known to the proposals after it, up to the first that there is none for."""
        suggestions: list[Suggestion] = []
        for index in indices:
            suggestion = propose(index)
            if suggestion is None:
                break
            self.take(suggestion.assignment, index)
            suggestions.append(suggestion)
        return suggestions

    def trial(self, assignment: Assignment) -> int:
        """The trial that tried what is known."""
        return self.trials[self.key(assignment)]

    def first(self, proposals: Iterable[tuple[Assignment, P]]) -> tuple[dict[str, Value], P] | None:
        """The first proposal that is not known, with what comes along with it; None where all are.

        A generator is asked for its next proposal only when the one before it was known.
        """
        return next(((dict(each), more) for each, more in proposals if self.key(each) not in self.trials), None)

    def drawn(self, rng: np.random.Generator) -> dict[str, Value] | None:
        """What is not known, drawn where it can be; None where a finite space is used up.

        In a space that is not finite, but in which almost all is known, it may be known.
        """
        if found := self.first((self.space.draw(rng), None) for _ in range(PATIENCE)):
            return found[0]
        drawn = self.space.draw(rng)
        if self.space.size is None:
            return drawn
        rest = itertools.islice(scattered(self.space, rng), len(self.trials) + MOST_ALIKE)
        return next((each for each in rest if self.key(each) not in self.trials), None)
