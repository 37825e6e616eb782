"""The search space: the possible assignments, in a form that every algorithm can draw from."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import compress
from typing import TYPE_CHECKING, TypeAlias

from katib_flow.history import Value
from katib_flow.spec.counting import Counting, active
from katib_flow.spec.parameters import Parameter

if TYPE_CHECKING:  # slow to import, and most programs never use the unit cube
    import numpy as np
    from numpy.typing import NDArray

Assignment = Mapping[str, Value]
Units: TypeAlias = "NDArray[np.float64]"
_ABSENT = object()


class SearchSpace:
    """Parameters in the order written, each conditional one right after the last of its parents.

    A point of the unit cube has a coordinate for every parameter, active or not, so that every point decodes to a
    valid assignment. An assignment encodes to a point with NaN for each inactive parameter.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        order = _parents_first(parameters)
        if len(order) < len(parameters):
            stuck = [name for name in parameters if name not in order]
            raise ValueError(f"parameters that depend on each other or on a missing parameter: {', '.join(stuck)}")
        self.parameters: dict[str, Parameter] = {name: parameters[name] for name in order}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and list(self.parameters.items()) == list(other.parameters.items())

    def __hash__(self) -> int:
        return hash(tuple(self.parameters))

    def __len__(self) -> int:
        return len(self.parameters)

    def is_active(self, name: str, assignment: Assignment) -> bool:
        """True if a parameter is active, given (at least) the values of its parents."""
        return active(self.parameters[name], assignment)

    def decode(self, units: "Sequence[float] | Units") -> dict[str, Value]:
        """The assignment at a point of the unit cube, shape (parameter,)."""
        assignment: dict[str, Value] = {}
        for (name, parameter), unit in zip(self.parameters.items(), units, strict=True):
            if active(parameter, assignment):
                assignment[name] = parameter.at(float(unit))
        return assignment

    def encode(self, assignment: Assignment) -> Units:
        """The point of an assignment in the unit cube, shape (parameter,), NaN for inactive parameters."""
        import numpy as np

        return np.array(
            [
                parameter.unit(assignment[name]) if name in assignment else math.nan
                for name, parameter in self.parameters.items()
            ],
            dtype=float,
        )

    def encode_all(self, assignments: Sequence[Assignment]) -> "tuple[Units, NDArray[np.bool_]]":
        """Encode many assignments at once.

        Returns:
            The points, shape (assignment, parameter), and which assignments lie in this space, shape (assignment,).
        """
        import numpy as np

        units = np.full((len(assignments), len(self)), np.nan)
        named, inside = np.zeros(len(assignments), dtype=int), np.ones(len(assignments), dtype=bool)
        for column, (name, parameter) in enumerate(self.parameters.items()):
            given = [name in assignment for assignment in assignments]
            present = np.array(given, dtype=bool)
            units[present, column] = parameter.units([known[name] for known in compress(assignments, given)])
            wanted = [active(parameter, assignment) for assignment in assignments] if parameter.when else True
            inside &= (present == wanted) & ~(present & np.isnan(units[:, column]))
            named += present
        return units, inside & (named == [len(assignment) for assignment in assignments])

    def draw(self, rng: "np.random.Generator") -> dict[str, Value]:
        """One random assignment, drawn from the prior of each parameter."""
        return self.decode(rng.random(len(self)))

    def mutate(self, old: Assignment, rng: "np.random.Generator", changed: str | None = None) -> dict[str, Value]:
        """An assignment that differs in one parameter; parameters that become active by it are drawn from the prior.

        Args:
            changed: the parameter to change; by default a random one of those with more than one value.
        """
        if changed is None:
            open_ = [name for name in old if self.parameters[name].size != 1]
            changed = open_[int(rng.integers(len(open_)))] if open_ else ""
        new: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.is_active(name, new):
                kept = name in old and name != changed
                new[name] = old[name] if kept else _another(parameter, old.get(name), name == changed, rng)
        return new

    def __contains__(self, assignment: Assignment) -> bool:
        names = {name for name in self.parameters if self.is_active(name, assignment)}
        return names == set(assignment) and all(self.parameters[name].contains(assignment[name]) for name in names)

    def why_not(self, assignment: Assignment) -> Iterator[tuple[str, str]]:
        """The reasons why an assignment is not in this space, as (parameter, reason) pairs; empty if it is."""
        for name, parameter in self.parameters.items():
            if not active(parameter, assignment):
                if name in assignment:
                    yield name, "is not active given the values of its parents"
            elif name not in assignment:
                yield name, "has no value"
            elif not parameter.contains(assignment[name]):
                yield name, "has a value that is not in this space"
        yield from ((name, "is not a parameter of this space") for name in assignment if name not in self.parameters)

    def key(self, assignment: Assignment) -> Hashable:
        """A hashable key that is equal for equal assignments only; 1, 1.0 and true differ."""
        values = [assignment.get(name, _ABSENT) for name in self.parameters]
        return (*values, *map(type, values))

    @cached_property
    def _counting(self) -> Counting:
        return Counting(self.parameters)

    @property
    def size(self) -> int | None:
        """Number of distinct assignments; None if a parameter that can be active is not countable."""
        return self._counting.size

    def nth(self, position: int) -> dict[str, Value]:
        """The assignment at a position of ``enumerate``, computed without listing those before it."""
        return self._counting.nth(position)

    def enumerate(self) -> Iterator[dict[str, Value]]:
        """Every assignment of a countable space, the last parameter changing fastest; empty if not countable."""
        return map(self.nth, range(self.size or 0))


def _another(parameter: Parameter, old: Value, different: bool, rng: "np.random.Generator") -> Value:
    if different and parameter.size is not None:
        step = 1 + int(rng.integers(parameter.size - 1))
        return parameter.nth((parameter.position(old) + step) % parameter.size)
    return parameter.at(float(rng.random()))


def _parents_first(parameters: Mapping[str, Parameter]) -> dict[str, None]:
    """Names in order, depth first, without those that depend on each other or on a missing parent."""
    order: dict[str, None] = {}
    backwards = list(parameters.items())[::-1]  # a stack yields the last item first
    waiting = [name for name, parameter in backwards if not parameter.when]
    children: dict[str, list[str]] = {}
    for child, parameter in backwards:
        for parent in parameter.when:
            children.setdefault(parent, []).append(child)
    while waiting:
        name = waiting.pop()
        order[name] = None
        waiting += [child for child in children.get(name, ()) if parameters[child].when.keys() <= order.keys()]
    return order


def cycle(parameters: Mapping[str, Parameter]) -> list[str]:
    """Names of two or more parameters whose conditions form a cycle; empty if there is no cycle."""
    parents = {name: (parameters.keys() & parameter.when) - {name} for name, parameter in parameters.items()}
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        return [name for name in parameters if name in error.args[1]]
    return []
