"""The budgets of successive halving, and the number of trials for each, computed with integers.

Papers: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018, Algorithm 1.
Departs from it: budgets are whole units between ``budget.min`` and ``budget.max``, so R is their ratio; and logarithms
are computed with integers, because floor(log(243, 3)) is 4 in floats, and should be 5.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from katib_flow.errors import SpecError
from katib_flow.history import History, Suggestion, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.sections import Budget


@dataclass(frozen=True)
class Rung:
    """A level at which trials compete.

    Attributes:
        size: number of trials on this rung.
        budget: the budget of each trial, in whole units.
    """

    size: int
    budget: int


def levels(budget: Budget) -> int:
    """s_max, the largest s with ``min`` * eta**s <= ``max``: the number of brackets minus one."""
    s_max = 0
    while budget.min * budget.eta ** (s_max + 1) <= budget.max:
        s_max += 1
    return s_max


def bracket(budget: Budget, s: int) -> tuple[Rung, ...]:
    """The rungs of the bracket that starts at ``max / eta**s``, the lowest first (Algorithm 1, lines 3 to 9)."""
    eta, all_levels = budget.eta, levels(budget) + 1
    first = -(-all_levels * eta**s // (s + 1))  # n, rounded up
    return tuple(Rung(first // eta**i, budget.max * eta**i // eta**s) for i in range(s + 1))


def hyperband_brackets(budget: Budget) -> tuple[tuple[Rung, ...], ...]:
    """All brackets, the one with the most rungs first."""
    return tuple(bracket(budget, s) for s in range(levels(budget), -1, -1))


def ladder(budget: Budget) -> tuple[int, ...]:
    """The budgets of asynchronous successive halving, from the lowest to ``max``."""
    s_max = levels(budget)
    return tuple(budget.max * budget.eta**i // budget.eta**s_max for i in range(s_max + 1))


def marked(history: History, **notes: object) -> list[Trial]:
    """The trials whose suggestion has these values in its ``info``."""
    return [
        trial for trial in history if all(trial.suggestion.info.get(name) == value for name, value in notes.items())
    ]


def promotions(
    budget: Budget, history: History, ranked: Callable[[list[Trial]], Sequence[Trial]]
) -> Iterator[Suggestion]:
    """The promotions that ASHA can make now, from the highest rung down, with index 0 (get_job in its Algorithm 2).

    Args:
        ranked: sorts the trials of a rung that have ended, the best first, without those that failed.
    """
    budgets = ladder(budget)
    for rung in range(len(budgets) - 2, -1, -1):
        ended = [trial for trial in marked(history, rung=rung) if trial.state.over]
        promoted = {trial.suggestion.parent for trial in marked(history, rung=rung + 1)}
        for parent in ranked(ended)[: len(ended) // budget.eta]:
            if parent.index not in promoted:
                info = {"rung": rung + 1}
                yield Suggestion(0, parent.assignment, budget=budgets[rung + 1], parent=parent.index, info=info)


def by_rung(history: History) -> dict[tuple[int, int], list[Trial]]:
    """The trials of each (bracket, rung)."""
    trials: dict[tuple[int, int], list[Trial]] = {}
    for trial in history:
        bracket_, rung = trial.suggestion.info.get("bracket"), trial.suggestion.info.get("rung")
        if isinstance(bracket_, int) and isinstance(rung, int):
            trials.setdefault((bracket_, rung), []).append(trial)
    return trials


def needs_budget(experiment: Experiment, name: str) -> Iterator[SpecError]:
    """The error of an experiment without a budget, for an algorithm that needs one."""
    if experiment.budget is None:
        need = f"parameter, min, max and eta, because {name} assigns budgets to trials; random and gp do without"
        yield SpecError("budget", NOTHING, need)
