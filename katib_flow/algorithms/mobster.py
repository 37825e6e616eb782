"""MOBSTER: asynchronous Hyperband, with a model of the loss by assignment and budget.

Papers: Klein et al., "Model-Based Asynchronous Hyperparameter and Neural Architecture Search", arXiv:2003.10865, 2020,
section 3; the promotions are those of ASHA (Li et al., MLSys 2020, Algorithm 2), the brackets those of Hyperband.
Departs from them: the budget is one more input of the kernel, on a logarithmic scale; the first ``startup`` trials have
the lowest budget, and then they begin in the bracket that is furthest behind, where the paper draws one at random; and
by turns, the trials of a rung are ranked by the loss seen and by the loss predicted for the full budget, because a
short training favours what learns fast at first, such as high learning rates. A promoted trial continues from its
parent's checkpoint.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from katib_flow.algorithms.evidence import Evidence, opening, units_of
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.gaussian_process import GaussianProcess, Priors, fitted
from katib_flow.algorithms.gp import MOST, GPSettings, expected, informative, maximised, standardised, winsorised
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.algorithms.rungs import hyperband_brackets, levels, needs_budget, promotions
from katib_flow.algorithms.threads import one_thread
from katib_flow.errors import SpecError
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Budget


def _check(experiment: Experiment, settings: GPSettings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "mobster")


@algorithm("mobster", settings=GPSettings, check=_check, earlier=True, budget=True)
def mobster(ask: Ask[GPSettings]) -> list[Suggestion]:
    """For each index a promotion, from the highest rung that has one, or else a new trial."""
    ask = replace(ask, earlier=History(tuple(trial for trial in ask.earlier if trial.suggestion.budget is not None)))
    evidence, history = Evidence.from_ask(ask), ask.history
    suggestions: list[Suggestion] = []
    with one_thread():
        model = Model.of(ask, evidence) if evidence.suffices(ask.settings.startup) else None
        for index in ask.indices:
            suggestion = _next(replace(ask, history=history, indices=range(index, index + 1)), evidence, model)
            if suggestion is None:
                break
            suggestions.append(replace(suggestion, index=index))
            history = history.replaced([Trial(suggestions[-1], State.RUNNING)])
    return suggestions


@dataclass(frozen=True)
class Model:
    """A Gaussian process over assignments and budgets, which is asked about the full budget.

    Attributes:
        seen: units of all trials that have ended, shape (n, parameter).
    """

    features: Features
    budget: Budget
    process: GaussianProcess
    seen: Array

    @classmethod
    def of(cls, ask: Ask[GPSettings], evidence: Evidence) -> "Model":
        """Fit the model to trials of all budgets."""
        assert ask.experiment.budget is not None
        features, rows = Features(ask.space), informative(evidence.losses)
        inputs = with_budget(features, ask.experiment.budget, evidence.units[rows], evidence.budgets[rows])
        outputs = standardised(winsorised(evidence.losses)[rows])
        group = np.append(features.group, features.group.max() + 1)
        process = fitted(inputs, outputs, group, Priors.in_dimensions(features.dimensions))
        return cls(features, ask.experiment.budget, process, evidence.units)

    def full(self, units: Array) -> Array:
        """The inputs for points trained with the full budget."""
        return with_budget(self.features, self.budget, units, np.full(len(units), self.budget.max))

    def predicted(self, units: Array) -> Array:
        """The standardised loss expected at the full budget, shape (n, parameter) -> (n,)."""
        return self.process.posterior(self.full(units))[0]

    @cached_property
    def best(self) -> Array:
        """Units of the five trials with the lowest prediction, the best first, shape (5, parameter)."""
        return self.seen[np.argsort(self.predicted(self.seen), kind="stable")[:5]]

    def candidates(self, ask: Ask[GPSettings]) -> Array:
        """New points in descending order of the improvement expected at the full budget, shape (n, parameter)."""
        waiting = [trial for trial in ask.history if not trial.state.over and trial.assignment in ask.space][-MOST:]
        pending = units_of(ask.space, [trial.assignment for trial in waiting])
        budgets = np.array([trial.suggestion.budget for trial in waiting], dtype=float)
        process = self.process.believing(with_budget(self.features, self.budget, pending, budgets))
        improvement = expected(process, self.full, np.vstack([self.seen, pending]))
        rng = ask.rng(ask.indices.start)
        return maximised(improvement, self.features, self.best, ask.settings.candidates, rng)


def with_budget(features: Features, budget: Budget, units: Array, budgets: Array) -> Array:
    """The features of points, and their budgets from -1, the lowest, to 0, the full one; shape (n, feature + 1)."""
    rungs = max(1, levels(budget))
    return np.hstack([features.expand(units), np.log(budgets / budget.max)[:, None] / (rungs * np.log(budget.eta))])


def _next(ask: Ask[GPSettings], evidence: Evidence, model: Model | None) -> Suggestion | None:
    """The suggestion for one index; None if there is nothing to promote, and the space is used up."""
    if evidence.scored < ask.settings.startup:
        return _start(ask, evidence, None, 0) or _promotion(ask, None)
    budget = ask.experiment.budget
    assert budget is not None
    return _promotion(ask, model) or _start(ask, evidence, model, first_rung(budget, ask.history))


def _promotion(ask: Ask[GPSettings], model: Model | None) -> Suggestion | None:
    """The next promotion, by the loss seen at even indices, and by the loss predicted at odd ones."""
    assert ask.experiment.budget is not None

    def by_prediction(trials: list[Trial]) -> list[Trial]:
        assert model is not None
        inside = [trial for trial in ask.experiment.ranked(trials) if trial.assignment in ask.space]
        units = units_of(ask.space, [trial.assignment for trial in inside])
        return [inside[position] for position in np.argsort(model.predicted(units), kind="stable")]

    ranked = by_prediction if model is not None and ask.indices.start % 2 else ask.experiment.ranked
    return next(promotions(ask.experiment.budget, ask.history, ranked), None)


def _start(ask: Ask[GPSettings], evidence: Evidence, model: Model | None, rung: int) -> Suggestion | None:
    """A new trial on a rung, where the model expects the largest improvement; None if the space is used up."""
    assert ask.experiment.budget is not None
    index = ask.indices.start
    if model is None:
        chosen = next((suggestion.assignment for suggestion in opening(ask, evidence)), None)
    else:
        chosen = evidence.take(model.candidates(ask), ask.rng(index))
    if chosen is None:
        return None
    budget = hyperband_brackets(ask.experiment.budget)[rung][0].budget
    return Suggestion(index, chosen, budget=budget, info={"rung": rung})


def first_rung(budget: Budget, history: History) -> int:
    """The rung of a new trial: that of the bracket with the fewest starts so far for its size."""
    sizes = [rungs[0].size for rungs in hyperband_brackets(budget)]
    starts = Counter(trial.suggestion.info.get("rung") for trial in history if trial.suggestion.parent is None)
    return int(np.argmin([(starts[rung] + 1) / size for rung, size in enumerate(sizes)]))
