"""The search space: which assignments are possible, in a form that every algorithm can draw from."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import Value
from katib_flow.spec.parameters import Parameter, same

Assignment = Mapping[str, Value]
Units = NDArray[np.float64]


class SearchSpace:
    """Parameters in the order written, parents before the parameters that depend on them.

    A point of the unit cube has a coordinate for every parameter, active or not, so that every point decodes to a
    valid assignment; an assignment encodes to a point with NaN where a parameter is inactive.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters: dict[str, Parameter] = dict(_parents_first(parameters))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and list(self.parameters.items()) == list(other.parameters.items())

    def __hash__(self) -> int:
        return hash(tuple(self.parameters))

    def __len__(self) -> int:
        return len(self.parameters)

    def is_active(self, name: str, assignment: Assignment) -> bool:
        """Whether a parameter is active, given (at least) the values of its parents."""
        return all(
            parent in assignment and any(same(assignment[parent], value) for value in values)
            for parent, values in self.parameters[name].when.items()
        )

    def decode(self, units: Sequence[float] | Units) -> dict[str, Value]:
        """The assignment at a point of the unit cube, shape (parameter,)."""
        assignment: dict[str, Value] = {}
        for (name, parameter), unit in zip(self.parameters.items(), units, strict=True):
            if self.is_active(name, assignment):
                assignment[name] = parameter.at(float(unit))
        return assignment

    def encode(self, assignment: Assignment) -> Units:
        """The point of the unit cube of an assignment, shape (parameter,), NaN where a parameter is inactive."""
        return np.array(
            [
                parameter.unit(assignment[name]) if name in assignment else math.nan
                for name, parameter in self.parameters.items()
            ],
            dtype=float,
        )

    def draw(self, rng: np.random.Generator) -> dict[str, Value]:
        """One assignment from the prior."""
        return self.decode(rng.random(len(self)))

    def __contains__(self, assignment: Assignment) -> bool:
        active = {name for name in self.parameters if self.is_active(name, assignment)}
        return active == set(assignment) and all(self.parameters[name].contains(assignment[name]) for name in active)

    @staticmethod
    def key(assignment: Assignment) -> tuple[tuple[str, str, Value], ...]:
        """A hashable name of an assignment, which tells 1 from 1.0 and from true."""
        return tuple(sorted((name, type(value).__name__, value) for name, value in assignment.items()))  # type: ignore[type-var]

    @cached_property
    def size(self) -> int | None:
        """Number of distinct assignments; None where a parameter that can be active is not countable."""
        return self._count(list(self.parameters), {})

    def _count(self, names: Sequence[str], parents: dict[str, Value]) -> int | None:
        """Count by branching only on the parameters that others depend on; the rest multiply."""
        deciding = {parent for parameter in self.parameters.values() for parent in parameter.when}
        total = 1
        for position, name in enumerate(names):
            if not self.is_active(name, parents):
                continue
            parameter = self.parameters[name]
            if parameter.size is None:
                return None
            if name not in deciding:
                total *= parameter.size
                continue
            branches = [self._count(names[position + 1 :], {**parents, name: value}) for value in parameter.values()]
            return None if None in branches else total * sum(branch for branch in branches if branch is not None)
        return total

    def enumerate(self) -> Iterator[dict[str, Value]]:
        """Every assignment of a countable space once, the last parameter changing fastest."""
        yield from self._enumerate(list(self.parameters), {})

    def _enumerate(self, names: Sequence[str], assignment: dict[str, Value]) -> Iterator[dict[str, Value]]:
        if not names:
            yield dict(assignment)
        elif not self.is_active(names[0], assignment):
            yield from self._enumerate(names[1:], assignment)
        else:
            for value in self.parameters[names[0]].values():
                yield from self._enumerate(names[1:], {**assignment, names[0]: value})


def _parents_first(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Raises ValueError where parameters depend on each other in a circle."""
    waiting, done = dict(parameters), set[str]()
    while waiting:
        ready = next((name for name, parameter in waiting.items() if done.issuperset(parameter.when)), None)
        if ready is None:
            raise ValueError(f"parameters that depend on each other in a circle: {', '.join(waiting)}")
        done.add(ready)
        yield ready, waiting.pop(ready)
