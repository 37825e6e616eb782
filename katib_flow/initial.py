"""The points that the user wants to try first, ``initial`` in a spec, combined with the algorithm's suggestions.

Without budgets they are separate trials before those of the algorithm. With budgets they replace the first points that
the algorithm draws, so that they compete in its rungs like any other.
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

MARK = "initial"  # key in ``Suggestion.info`` with the number of the point
Propose = Callable[[range], list[Suggestion]]


def with_initial(experiment: Experiment, history: History, indices: range, propose: Propose) -> list[Suggestion]:
    """Suggestions for some indices, the user's points first.

    Args:
        propose: asks the algorithm, whose own indices start at 0 even if points precede them.
    """
    if experiment.budget is not None:
        return list(_competing(experiment, history, propose(indices)))
    count = len(experiment.initial)
    mine = range(min(indices.start, count), min(indices.stop, count))
    rest = propose(range(max(indices.start, count) - count, max(indices.stop, count) - count))
    given = Origin(Kind.GIVEN)
    first = [Suggestion(index, _whole(experiment, index), info={MARK: index}, origin=given) for index in mine]
    return [*first, *(replace(suggestion, index=suggestion.index + count) for suggestion in rest)]


def _competing(experiment: Experiment, history: History, proposals: list[Suggestion]) -> Iterator[Suggestion]:
    done = {trial.suggestion.info.get(MARK) for trial in history}
    waiting = [number for number in range(len(experiment.initial)) if number not in done]
    for proposal in proposals:
        if waiting and proposal.parent is None:
            number = waiting.pop(0)
            info, origin = {**proposal.info, MARK: number}, Origin(Kind.GIVEN)
            yield replace(proposal, assignment=_whole(experiment, number), info=info, origin=origin)
        else:
            yield proposal


def _whole(experiment: Experiment, number: int) -> dict[str, Value]:
    """A point with its missing parameters drawn at random, reproducibly."""
    import numpy as np  # slow to import, and most experiments name no points

    rng = np.random.default_rng((experiment.algorithm.seed, number))
    return completed(experiment, experiment.initial[number], rng)


def completed(experiment: Experiment, point: Assignment, rng: "np.random.Generator") -> dict[str, Value]:
    """An assignment with the values of a point, and other active parameters drawn from the prior."""
    space = search_space(experiment)
    assignment: dict[str, Value] = {}
    units: Mapping[str, float] = dict(zip(space.parameters, rng.random(len(space)), strict=True))
    for name, parameter in space.parameters.items():
        if space.is_active(name, assignment):
            assignment[name] = parameter.typed(point[name]) if name in point else parameter.at(units[name])
    return assignment
