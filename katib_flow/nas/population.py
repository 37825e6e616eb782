"""A population of trials that evolves: the trials that are alive, and the choice of a parent.

Paper: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019, Algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.registry import Ask
from katib_flow.history import Suggestion, Trial


def youngest(ask: Ask[Any], count: int) -> Sequence[Trial]:
    """The last ``count`` trials with a result, or all if there are fewer."""
    return ask.history.completed(ask.objective.metric)[-count:]


def best_rival(ask: Ask[Any], alive: Sequence[Trial], count: int, rng: np.random.Generator) -> Trial:
    """The best of ``count`` rivals, drawn with replacement."""
    return min((alive[position] for position in rng.integers(len(alive), size=count)), key=ask.loss)


def drawn(ask: Ask[Any], index: int, known: Known) -> Suggestion | None:
    """A random new assignment; None if a finite space is used up."""
    assignment = known.drawn(ask.rng(index))
    return None if assignment is None else Suggestion(index, assignment)
