"""A synthetic landscape over cells, and searches on it: no training, and a search is quick.

Only operations with weights, so that no two decisions make one network: the loss is one of decisions.
"""

from typing import Any

import numpy as np
from kit import spec

from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import answer
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

CELL: Any = {"space": "cell", "settings": {"operations": ["conv1", "conv3", "conv5", "sep3"]}}
SLOTS = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
_rng = np.random.default_rng(7)
ALONE = _rng.random((6, 4))
TOGETHER = _rng.random((6, 6, 4, 4))


def loss(assignment: Any) -> float:
    """What each choice costs alone, and every two of them together: no slot is decided by itself."""
    tokens = [CELL["settings"]["operations"].index(assignment[slot]) for slot in SLOTS]
    alone = sum(ALONE[slot, token] for slot, token in enumerate(tokens))
    pairs = [TOGETHER[a, b, tokens[a], tokens[b]] for a in range(6) for b in range(a)]
    return float(alone + 0.5 * sum(pairs))


def search(name: str, seed: int = 0, **settings: Any) -> Experiment:
    algorithm = {"name": name, "seed": seed, "settings": settings}
    objective = {"metric": "loss", "direction": "minimize"}
    return Experiment.parse(
        spec(objective=objective, parameters={}, architecture=CELL, algorithm=algorithm, limits={"max_trials": 5000})
    )


def ended(suggestion: Suggestion, value: float | None) -> Trial:
    if value is None:
        return Trial(suggestion, State.FAILED)
    return Trial(suggestion, State.SUCCEEDED, {"loss": value})


def play(made: Experiment, most: int, batch: int = 1, of: Any = loss, history: History | None = None) -> History:
    """Search until there are so many trials."""
    history, kept = history or History(), tuple[Learnt, ...]()
    while len(history) < most:
        answered = answer(made, history, min(batch, most - len(history)), kept=kept)
        if not answered.suggestions:
            break
        kept = (answered.learnt,) if answered.learnt else kept
        history = history.replaced(ended(each, of(each.assignment)) for each in answered.suggestions)
    return history


def best(history: History) -> float:
    return min(trial.observations["loss"] for trial in history)


def every_loss() -> np.ndarray:
    """Of all 4,096 assignments, the lowest first."""
    space = search_space(search("random"))
    return np.sort([loss(assignment) for assignment in space.enumerate()])


def shuffled(history: History, seed: int = 0) -> History:
    """The same trials, each with another's result."""
    values = np.random.default_rng(seed).permutation([trial.observations["loss"] for trial in history])
    return History(tuple(ended(trial.suggestion, float(v)) for trial, v in zip(history, values, strict=True)))
