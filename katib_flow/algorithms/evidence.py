"""The data of a surrogate model: the history as points and losses, and which points are taken.

Failed trials, and those without a finite value, get the loss of the worst trial with a value: the model learns to avoid
points that fail. Killed trials will be started again, so they count as pending.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.features import Array
from katib_flow.algorithms.registry import Ask, Settings
from katib_flow.algorithms.sobol import sobol
from katib_flow.history import State, Suggestion, Trial, Value
from katib_flow.spec.space import SearchSpace

FAILURES = (State.FAILED, State.METRICS_UNAVAILABLE, State.SUCCEEDED, State.EARLY_STOPPED)


@dataclass
class Evidence:
    """The trials of an experiment so far, and of the earlier experiments that it learns from; taken points are added.

    Attributes:
        units: points of the trials that have ended, shape (n, parameter), NaN where inactive.
        losses: lower is better, shape (n,).
        budgets: the budgets of these trials, NaN for trials without one, shape (n,).
        pending: points of the trials without a result yet, shape (m, parameter).
        scored: number of trials with a finite value.
    """

    space: SearchSpace
    units: Array
    losses: Array
    budgets: Array
    pending: Array
    scored: int
    _known: Known

    @classmethod
    def from_ask(cls, ask: Ask[Any]) -> "Evidence":
        """The trials inside the current space; earlier ones only if they have ended."""
        space, objective = ask.space, ask.objective
        everything = [*ask.history, *(trial for trial in ask.earlier if trial.state.over)]
        units, inside = space.encode_all([trial.assignment for trial in everything])
        known, units = list(compress(everything, inside)), units[inside]
        own = int(np.sum(inside[: len(ask.history)]))
        values = [trial.observed(objective.metric) for trial in known]
        losses = np.array([math.nan if value is None else objective.loss(value) for value in values], dtype=float)
        scored = ~np.isnan(losses)
        losses[~scored] = np.max(losses[scored], initial=-math.inf) if scored.any() else 0.0
        ended = scored | np.array([trial.state in FAILURES for trial in known], dtype=bool)
        waiting = np.array([not trial.state.over for trial in known[:own]], dtype=bool)
        return cls(
            space=space,
            units=units[ended],
            losses=losses[ended],
            budgets=np.array([trial.suggestion.budget for trial in known], dtype=float)[ended],
            pending=units[:own][waiting],
            scored=int(np.sum(scored)),
            _known=Known.from_ask(ask, known[:own]),
        )

    def suffices(self, startup: int) -> bool:
        """Whether a model can learn from the trials: at least ``startup`` have a value, and not all losses are equal.

        From equal losses a Gaussian process learns only where it is most uncertain: in the corners of the space.
        """
        return self.scored >= startup and bool(np.ptp(self.losses) > 0)

    def exclude(self, trials: Iterable[Trial]) -> None:
        """Mark trials as tried, without learning from them."""
        for trial in trials:
            if trial.assignment in self.space:
                self._known.take(trial.assignment, trial.index)

    def take(self, candidates: Array, rng: np.random.Generator) -> dict[str, Value] | None:
        """Take the first candidate that is new, or a random new point; None if the space is used up.

        Args:
            candidates: units, shape (n, parameter), the best first.
        """
        proposals = ((self.space.decode(np.nan_to_num(units, nan=0.5)), None) for units in candidates)
        new = self._known.first(proposals)  # all candidates of a branch may be known, even in an infinite space
        assignment = new[0] if new else self._known.drawn(rng)
        return None if assignment is None else self._take(assignment)

    def _take(self, assignment: dict[str, Value]) -> dict[str, Value]:
        self.pending = np.vstack([self.pending, self.space.encode(assignment)[None]])
        self._known.take(assignment, -1)
        return assignment


def opening(ask: Ask[Any], evidence: Evidence) -> list[Suggestion]:
    """The suggestions as long as no model can be fitted: new points of a Sobol sequence."""
    points = {point.index: point.assignment for point in sobol(replace(ask, settings=Settings()))}
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        candidates = units_of(ask.space, [points[index]] if index in points else [])
        if (chosen := evidence.take(candidates, ask.rng(index))) is not None:
            suggestions.append(Suggestion(index, chosen))
    return suggestions


def units_of(space: SearchSpace, assignments: Sequence[Mapping[str, Value]]) -> Array:
    """The units of assignments inside a space, shape (n, parameter); (0, parameter) without assignments."""
    return np.array([space.encode(assignment) for assignment in assignments]).reshape(-1, len(space))
