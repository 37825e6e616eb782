"""Count the assignments of a search space, and find the one at a position, without listing them.

The parameters are visited in order. Of the values chosen so far, only those of the parents of later parameters matter,
and only in so far as conditions distinguish them: this is a *state*. The number of ways to continue from a state
follows from the states one parameter later, so it is computed from the last parameter back to the first.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from katib_flow.history import Value
from katib_flow.spec.parameters import Parameter, same

State = tuple[tuple[str, int], ...]
"""(parent, position of the first value of a run) pairs; conditions do not distinguish the values of a run."""


class _Run(NamedTuple):
    """Neighbouring values of a parameter that lead to the same state; an inactive parameter has one without a start."""

    start: int | None
    length: int
    state: State


def active(parameter: Parameter, assignment: Mapping[str, Value]) -> bool:
    """True if a parameter is active, given (at least) the values of its parents."""
    for parent, values in parameter.when.items():
        if parent not in assignment or not any(same(assignment[parent], value) for value in values):
            return False
    return True


class Counting:
    """The assignments of parameters in an order with parents first, the last parameter changing fastest.

    Attributes:
        size: number of assignments; None if a parameter that can be active is not countable.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters
        self._names = list(parameters)
        self._needed = self._needed_from()
        self._runs: list[dict[State, list[_Run]]] = []
        self._ways: list[dict[State, int]] = []
        self.size = self._count()

    def nth(self, position: int) -> dict[str, Value]:
        """The assignment at a position of a countable space.

        Raises:
            IndexError: the position is ``size`` or more.
        """
        assignment: dict[str, Value] = {}
        state: State = ()
        for index, (name, parameter) in enumerate(self._parameters.items()):
            for run in self._runs[index][state]:
                ways = self._ways[index + 1][run.state]
                if position < run.length * ways:
                    break
                position -= run.length * ways
            else:
                raise IndexError(position)
            if run.start is not None:
                assignment[name] = parameter.nth(run.start + position // ways)
            position, state = position % ways, run.state
        return assignment

    def _count(self) -> int | None:
        states: set[State] = {()}
        for index, name in enumerate(self._names):
            if any(self._parameters[name].size is None and self._active(name, state) for state in states):
                return None
            self._runs.append({state: list(self._runs_of(index, state)) for state in states})
            states = {run.state for runs in self._runs[-1].values() for run in runs}
        self._ways = [dict.fromkeys(states, 1)]
        for runs_of in reversed(self._runs):
            after = self._ways[0]
            ways = {state: sum(run.length * after[run.state] for run in runs) for state, runs in runs_of.items()}
            self._ways.insert(0, ways)
        return self._ways[0][()]

    def _needed_from(self) -> list[set[str]]:
        """For each parameter, the parents on which it or a later one depends."""
        needed = [set[str]()]
        for name in reversed(self._names):
            needed.insert(0, needed[0] | self._parameters[name].when.keys())
        return needed

    def _active(self, name: str, state: State) -> bool:
        return active(self._parameters[name], {parent: self._parameters[parent].nth(at) for parent, at in state})

    def _runs_of(self, index: int, state: State) -> Iterator[_Run]:
        name, needed = self._names[index], self._needed[index + 1]
        kept = tuple(pair for pair in state if pair[0] in needed)
        if not self._active(name, state):
            yield _Run(None, 1, kept)
        elif name not in needed:
            yield _Run(0, self._parameters[name].size or 0, kept)
        else:
            for start, length in self._alike(name):
                yield _Run(start, length, (*kept, (name, start)))

    def _alike(self, name: str) -> Iterator[tuple[int, int]]:
        """Start and length of each run of values that no condition distinguishes."""
        parent = self._parameters[name]
        whens = [parameter.when.get(name, ()) for parameter in self._parameters.values()]
        named = sorted({parent.position(value) for values in whens for value in values if parent.contains(value)})
        for before, at in pairwise((-1, *named, parent.size or 0)):
            if at - before > 1:
                yield before + 1, at - before - 1
            if at != parent.size:
                yield at, 1
