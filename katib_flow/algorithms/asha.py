"""ASHA: asynchronous successive halving; a trial is promoted as soon as it is among the best of its rung.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, Algorithm 2 (s = 0).
Departs from it: a promoted trial continues from its parent's checkpoint; failed trials count towards the size of their
rung, but are never promoted.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from katib_flow.algorithms.random import random
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import ladder, marked, needs_budget, promotions
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spec.experiment import Experiment


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "asha")


@algorithm("asha", check=_check, budget=True)
def asha(ask: Ask[Settings]) -> list[Suggestion]:
    """Promote trials, from the highest rung down; then start new ones on the lowest rung (procedure get_job)."""
    assert ask.experiment.budget is not None
    promoted = list(islice(promotions(ask.experiment.budget, ask.history, ask.experiment.ranked), len(ask.indices)))
    drawn = len(marked(ask.history, rung=0))
    new = random(replace(ask, indices=range(drawn, drawn + len(ask.indices) - len(promoted))))
    fresh = [replace(suggestion, budget=ladder(ask.experiment.budget)[0], info={"rung": 0}) for suggestion in new]
    return [
        replace(suggestion, index=index) for index, suggestion in zip(ask.indices, [*promoted, *fresh], strict=False)
    ]
