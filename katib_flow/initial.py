"""The points that a user wants tried first: ``initial:`` in a spec, with the algorithm's own proposals around them.

Without budgets they are trials of their own, before the algorithm's first. With budgets they take the place of the
first points that the algorithm would draw, so that they compete in its rungs like any other.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from katib_flow.history import History, Kind, Origin, Suggestion, Value
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import Assignment

if TYPE_CHECKING:
    import numpy as np

MARK = "initial"  # in ``Suggestion.info``: which of the points it is
Propose = Callable[[range], list[Suggestion]]


def with_initial(experiment: Experiment, history: History, indices: range, propose: Propose) -> list[Suggestion]:
    """Suggestions for some indices, the user's points first.

    Args:
        propose: asks the algorithm, whose own indices count from 0 whatever came before.
    """
    if experiment.budget is not None:
        return list(_competing(experiment, history, propose(indices)))
    count = len(experiment.initial)
    mine = range(min(indices.start, count), min(indices.stop, count))
    rest = propose(range(max(indices.start, count) - count, max(indices.stop, count) - count))
    given = Origin(Kind.GIVEN)
    first = [Suggestion(index, _whole(experiment, index), info={MARK: index}, origin=given) for index in mine]
    return [*first, *(replace(each, index=each.index + count) for each in rest)]


def _competing(experiment: Experiment, history: History, proposals: list[Suggestion]) -> Iterator[Suggestion]:
    done = {trial.suggestion.info.get(MARK) for trial in history}
    waiting = [number for number in range(len(experiment.initial)) if number not in done]
    for each in proposals:
        if waiting and each.parent is None:
            number = waiting.pop(0)
            info, origin = {**each.info, MARK: number}, Origin(Kind.GIVEN)
            yield replace(each, assignment=_whole(experiment, number), info=info, origin=origin)
        else:
            yield each


def _whole(experiment: Experiment, number: int) -> dict[str, Value]:
    """A point with what it leaves open drawn at random, the same whenever it is asked for."""
    import numpy as np  # slow to import, and most experiments name no points

    rng = np.random.default_rng((experiment.algorithm.seed, number))
    return completed(experiment, experiment.initial[number], rng)


def completed(experiment: Experiment, point: Assignment, rng: "np.random.Generator") -> dict[str, Value]:
    """The assignment of a point that names some parameters, the others drawn from the prior."""
    space = search_space(experiment)
    assignment: dict[str, Value] = {}
    units: Mapping[str, float] = dict(zip(space.parameters, rng.random(len(space)), strict=True))
    for name, parameter in space.parameters.items():
        if space.is_active(name, assignment):
            assignment[name] = parameter.typed(point[name]) if name in point else parameter.at(units[name])
    return assignment
