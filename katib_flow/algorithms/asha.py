"""ASHA: asynchronous successive halving; a trial is promoted as soon as it is among the best of its rung.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, Algorithm 2 (s = 0).
Departs from it: a promoted trial continues from its parent's checkpoint; failed trials count towards the size of their
rung, but are never promoted.
"""

from collections.abc import Iterator
from dataclasses import replace

from katib_flow.algorithms.random import random
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import ladder, marked, needs_budget
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spec.experiment import Experiment


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "asha")


@algorithm("asha", check=_check, budget=True)
def asha(ask: Ask[Settings]) -> list[Suggestion]:
    """Promote trials, from the highest rung down; then start new ones on the lowest rung (procedure get_job)."""
    assert ask.experiment.budget is not None
    budgets = ladder(ask.experiment.budget)
    promotions = list(_promotions(ask, budgets))[: len(ask.indices)]
    drawn = len(marked(ask.history, rung=0))
    new = random(replace(ask, indices=range(drawn, drawn + len(ask.indices) - len(promotions))))
    fresh = [replace(suggestion, budget=budgets[0], info={"rung": 0}) for suggestion in new]
    return [
        replace(suggestion, index=index) for index, suggestion in zip(ask.indices, [*promotions, *fresh], strict=False)
    ]


def _promotions(ask: Ask[Settings], budgets: tuple[int, ...]) -> Iterator[Suggestion]:
    assert ask.experiment.budget is not None
    eta = ask.experiment.budget.eta
    for rung in range(len(budgets) - 2, -1, -1):
        ended = [trial for trial in marked(ask.history, rung=rung) if trial.state.over]
        promoted = {trial.suggestion.parent for trial in marked(ask.history, rung=rung + 1)}
        for parent in ask.experiment.ranked(ended)[: len(ended) // eta]:
            if parent.index not in promoted:
                info = {"rung": rung + 1}
                yield Suggestion(0, parent.assignment, budget=budgets[rung + 1], parent=parent.index, info=info)
