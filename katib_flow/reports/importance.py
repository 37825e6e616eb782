"""The importance of parameters: their shares of the variance of the objective over the search space (fANOVA).

Paper: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014: a
random forest of the objective, whose variance decomposes exactly (Algorithm 1, equations 5 to 8), leaf by leaf.
Departs from it: the forest is fitted on the unit cube, so that each parameter is drawn from its prior. The coordinate
of an inactive parameter has no meaning, and is filled with random numbers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Objective
from katib_flow.wording import counted

Array = NDArray[np.float64]
LEAST = 10  # trials with a value that a forest needs
TREES = 64
FILLS = 4  # copies of each trial if some parameter can be inactive


@dataclass(frozen=True)
class Pair:
    """The interaction of two parameters: what they explain together but not alone.

    Attributes:
        share: the share of the variance, in [0, 1], averaged over the trees.
    """

    parameters: tuple[str, str]
    share: float


@dataclass(frozen=True)
class Importance:
    """The importance of each parameter by itself, and of pairs.

    Attributes:
        shares: the shares of the variance, in [0, 1], averaged over the trees, the largest first.
        deviations: the standard deviations of the shares between the trees.
        pairs: the interactions of pairs of parameters, the largest first.
        trials: the number of trials that the forest was fitted to.
        budget: the budget of these trials; None if the experiment has no budgets.
    """

    metric: str
    shares: dict[str, float]
    deviations: dict[str, float]
    pairs: tuple[Pair, ...]
    trials: int
    budget: float | None = None

    @property
    def sample(self) -> str:
        """The trials in words, with their budget: "20 trials with a budget of 3"."""
        return counted(self.trials, "trial") + ("" if self.budget is None else f" with a budget of {self.budget:g}")


def importance(
    experiment: Experiment, trials: Iterable[Trial], objective: Objective | None = None, *, seed: int = 0
) -> Importance:
    """The importance of each parameter for an objective, the first one by default.

    With budgets, only the trials of one budget count: see ``comparable``.

    Raises:
        KatibFlowError: too few trials have a value, all values are equal, no parameter varies, or scikit-learn is not
            installed.
    """
    chosen, space = objective or experiment.objective[0], search_space(experiment)
    if all(parameter.size == 1 for parameter in space.parameters.values()):
        raise KatibFlowError(f"{experiment.name}: no parameter has more than one value, so none has an importance")
    observed = [trial for trial in trials if trial.observed(chosen.metric) is not None and trial.assignment in space]
    known = [(trial, trial.observations[chosen.metric]) for trial in comparable(observed, LEAST)]
    if len(known) < LEAST:
        what = f"{counted(len(known), 'trial')} with a finite value of {chosen.metric!r}"
        raise KatibFlowError(f"{experiment.name}: found {what}, need at least {LEAST} to estimate importance")
    rng = np.random.default_rng(seed)
    units = np.array([space.encode(trial.assignment) for trial, _ in known])
    copies = FILLS if np.isnan(units).any() else 1
    points = np.tile(units, (copies, 1))
    points = np.where(np.isnan(points), rng.random(points.shape), points)
    values = _onto_unit(np.array([value for _, value in known]))
    names = list(space.parameters)
    trees = [decomposed(*leaves) for leaves in _forest(points, np.tile(values, copies), copies, seed)]
    trees = [tree for tree in trees if tree is not None]
    if not np.ptp(values) or not trees:
        raise KatibFlowError(f"{experiment.name}: all trials have the same {chosen.metric!r}, so there is no variance")
    alone = np.array([tree[0] for tree in trees])
    both = np.mean([tree[1] for tree in trees], axis=0)
    means, order = alone.mean(axis=0), np.argsort(-alone.mean(axis=0), kind="stable")
    pairs = [Pair((names[i], names[j]), float(both[i, j])) for i, j in combinations(range(len(names)), 2)]
    return Importance(
        metric=chosen.metric,
        shares={names[index]: float(means[index]) for index in order},
        deviations={names[index]: float(alone[:, index].std()) for index in order},
        pairs=tuple(sorted(pairs, key=lambda pair: -pair.share)),
        trials=len(known),
        budget=known[0][0].suggestion.budget,
    )


def comparable(trials: Sequence[Trial], least: int) -> Sequence[Trial]:
    """The trials of the largest budget that at least ``least`` of them have, because more budget changes the objective.

    If no budget has that many trials, it is the budget with most trials, the largest of those.
    """
    counts = Counter(trial.suggestion.budget for trial in trials)
    if len(counts) < 2:
        return trials
    chosen = max(counts, key=lambda budget: (min(counts[budget], least), budget or 0.0))
    return [trial for trial in trials if trial.suggestion.budget == chosen]


def _onto_unit(values: Array) -> Array:
    """Scale values to [0, 1], which does not change the shares, so that squares neither underflow nor overflow."""
    values = values / (np.abs(values).max() or 1.0)
    return (values - values.min()) / (np.ptp(values) or 1.0)


def decomposed(lower: Array, upper: Array, values: Array) -> tuple[Array, Array] | None:
    """The shares of the variance of one tree over the unit cube; None if the tree is constant.

    Args:
        lower, upper: the corners of the leaves' boxes, which tile the cube, shape (leaf, parameter).
        values: the values of the leaves, shape (leaf,).

    Returns:
        The shares of single parameters, shape (parameter,), and the interactions of pairs, shape (parameter,
        parameter), zero on the diagonal.
    """
    width = upper - lower
    volume = width.prod(axis=1)
    values = values - values @ volume
    total = float(values**2 @ volume)
    if total <= 1e-12 * max(1.0, float(np.abs(values).max())) ** 2:
        return None
    count = lower.shape[1]
    inside, lengths = zip(*(_segments(lower[:, j], upper[:, j]) for j in range(count)), strict=True)
    alone = np.array([lengths[j] @ (inside[j] @ (values * volume / width[:, j])) ** 2 for j in range(count)])
    both = np.zeros((count, count))
    for i, j in combinations(range(count), 2):
        marginal = (inside[i] * (values * volume / (width[:, i] * width[:, j]))) @ inside[j].T
        both[i, j] = both[j, i] = lengths[i] @ marginal**2 @ lengths[j] - alone[i] - alone[j]
    return alone / total, np.maximum(both, 0.0) / total


def _segments(lower: Array, upper: Array) -> tuple[Array, Array]:
    """The leaves over each segment between borders on one axis (as 0 and 1), and the lengths of the segments."""
    borders = np.unique(np.concatenate([lower, upper]))
    middle = (borders[1:] + borders[:-1]) / 2
    over = (lower[None, :] < middle[:, None]) & (middle[:, None] < upper[None, :])
    return over.astype(float), np.diff(borders)


def _forest(points: Array, values: Array, copies: int, seed: int) -> list[tuple[Array, Array, Array]]:
    """Fit a random forest, and return the leaves of each tree."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError:
        raise KatibFlowError("importance needs scikit-learn: pip install 'katib-flow[report]'") from None
    forest = RandomForestRegressor(TREES, min_samples_leaf=2 * copies, random_state=seed)
    return [leaves_of(tree.tree_, points.shape[1]) for tree in forest.fit(points, values).estimators_]


def leaves_of(tree: Any, count: int) -> tuple[Array, Array, Array]:
    """The corners and values of the leaves of a fitted scikit-learn tree, within the unit cube."""
    lower, upper, values = [], [], []
    waiting = [(0, np.zeros(count), np.ones(count))]
    while waiting:
        node, low, high = waiting.pop()
        left, right, axis = tree.children_left[node], tree.children_right[node], tree.feature[node]
        if left == right:  # a leaf
            lower.append(low)
            upper.append(high)
            values.append(tree.value[node].item())
            continue
        border = min(max(float(tree.threshold[node]), 0.0), 1.0)
        nearer, further = high.copy(), low.copy()
        nearer[axis] = further[axis] = border
        waiting += [(left, low, nearer), (right, further, high)]
    return np.array(lower), np.array(upper), np.array(values)
