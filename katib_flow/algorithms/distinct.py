"""An endless stream of points of the unit cube -> distinct assignments, so that a finite space is covered exactly once.

Random search and Sobol read the same stream whenever they are asked: what stands at an index depends on the seed and
the index alone. Nothing is kept but a memo of the replay.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from katib_flow.spec.space import Assignment, SearchSpace, Units

SMALL = 1 << 14  # spaces up to this size are listed once the stream has become slow to find what is left
PATIENCE = 64  # duplicates in a row before a small space is listed

Points = Callable[[int], Units]
"""The point of the unit cube at a position of the stream, shape (parameter,)."""


@dataclass
class DistinctStream:
    """Distinct assignments in the order of a stream of points; ends when a finite space is used up."""

    space: SearchSpace
    points: Points
    seed: int
    found: list[Assignment] = field(default_factory=list[Assignment])

    def __post_init__(self) -> None:
        self._source = self._distinct()

    def take(self, indices: range) -> list[tuple[int, Assignment]]:
        """The assignments at some indices; fewer where the space has no more."""
        self.found.extend(itertools.islice(self._source, max(0, indices.stop - len(self.found))))
        return [(index, self.found[index]) for index in indices if index < len(self.found)]

    def _distinct(self) -> Iterator[Assignment]:
        size = self.space.size
        seen: set[object] = set()
        in_vain = 0
        for position in itertools.count():
            if size is not None and (len(seen) == size or (in_vain >= PATIENCE and size <= SMALL)):
                break
            assignment = self.space.decode(self.points(position))
            key = self.space.key(assignment) if size is not None else position
            if key in seen:
                in_vain += 1
                continue
            in_vain = 0
            seen.add(key)
            yield assignment
        yield from self._rest(seen)

    def _rest(self, seen: set[object]) -> Iterator[Assignment]:
        """What a small space has left, in a random order."""
        rest = (
            [each for each in self.space.enumerate() if self.space.key(each) not in seen]
            if seen_all(self.space, seen)
            else []
        )
        order = np.random.default_rng((self.seed, len(seen))).permutation(len(rest))
        for position in order:
            yield rest[position]


def seen_all(space: SearchSpace, seen: set[object]) -> bool:
    """Whether anything is left to list."""
    return space.size is not None and len(seen) < space.size
