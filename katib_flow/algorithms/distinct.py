"""A stream of points of the unit cube -> distinct assignments, so that a finite space is covered exactly once.

Random search and Sobol read the same stream whenever they are asked: what stands at an index depends on the seed and
the index alone. Nothing is kept but a memo of the replay.
"""

import itertools
import math
import threading
from collections.abc import Hashable, Iterator, Set

import numpy as np

from katib_flow.history import Suggestion, Value
from katib_flow.spec.space import Assignment, SearchSpace, Units

PATIENCE = 64  # known assignments in a row, before what is left is gone through instead


class DistinctStream:
    """The assignments of a finite space in the order in which a stream of points comes upon them."""

    def __init__(self, space: SearchSpace, points: Iterator[Units], seed: int) -> None:
        self._space, self._points, self._seed = space, points, seed
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
            key = self._space.key(assignment)
            in_vain = in_vain + 1 if key in seen else 0
            if not in_vain:
                seen.add(key)
                yield assignment
            if in_vain == PATIENCE or len(seen) == self._space.size:
                break
        yield from self._rest(seen)

    def _rest(self, seen: set[Hashable]) -> Iterator[Assignment]:
        """What has not been seen."""
        missing = (self._space.size or 0) - len(seen)
        everything = scattered(self._space, np.random.default_rng((self._seed, len(seen)))) if missing else iter(())
        yield from itertools.islice((each for each in everything if self._space.key(each) not in seen), missing)


def scattered(space: SearchSpace, rng: np.random.Generator) -> Iterator[dict[str, Value]]:
    """All of a finite space, each once, in equal strides through the list of all, which is never made."""
    size = space.size
    assert size, "only a finite space can be gone through"
    start, stride = (int(number) for number in rng.integers(1 << 62, size=2))
    while math.gcd(stride, size) != 1:  # so that the strides come by everywhere
        stride += 1
    return (space.nth((start + step * stride) % size) for step in range(size))


def unseen(space: SearchSpace, seen: Set[Hashable], rng: np.random.Generator) -> dict[str, Value] | None:
    """An assignment that is not among those seen, drawn where it can be; None where a finite space is used up.

    In a space that is not finite, but in which almost all is, it may be one that was seen.

    Args:
        seen: keys of assignments of this space.
    """
    drawn = space.draw(rng)
    for _ in range(PATIENCE):
        if space.key(drawn) not in seen:
            return drawn
        drawn = space.draw(rng)
    if space.size is None:
        return drawn
    return next((each for each in scattered(space, rng) if space.key(each) not in seen), None)
