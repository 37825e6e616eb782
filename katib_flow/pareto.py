"""Several objectives: dominance between points, the non-dominated front, and the hypervolume that it dominates.

Papers: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 2002,
sections III-A and III-B (fronts, crowding distance); Zitzler and Thiele, IEEE Trans. Evol. Comput. 1999 (hypervolume),
computed by slicing after While et al., "A Faster Algorithm for Calculating Hypervolume", 2006.
All arrays are losses (lower is better), shape (n, objective). Equal points do not dominate each other.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import History, Trial
from katib_flow.spec.experiment import Experiment

Array = NDArray[np.float64]
CHUNK = 512  # points that are compared with all others at a time


def dominated(losses: Array, by: Array) -> NDArray[np.bool_]:
    """True for each point that a point of ``by`` dominates (nowhere worse, somewhere better), shape (n,)."""
    chunks = [losses[start : start + CHUNK, None, :] for start in range(0, len(losses), CHUNK)]
    results = [np.any(np.all(by <= chunk, axis=2) & np.any(by < chunk, axis=2), axis=1) for chunk in chunks]
    return np.concatenate(results) if results else np.zeros(0, dtype=np.bool_)


def fronts(losses: Array) -> NDArray[np.int64]:
    """The front of each point, shape (n,): 0 for non-dominated points, 1 for those that only these dominate, and so on.

    In lexicographic order a point can only be dominated by earlier ones, so it belongs to the first front in which no
    point dominates it, found by bisection (Zhang et al., "An Efficient Approach to Nondominated Sorting", 2015).
    """
    rank = np.zeros(len(losses), dtype=np.int64)
    sorted_fronts: list[_Front] = []
    for row in np.lexsort(losses.T[::-1]):
        rank[row] = bisect_left(sorted_fronts, True, key=lambda front: not front.dominates(losses[row]))
        if rank[row] == len(sorted_fronts):
            sorted_fronts.append(_Front(losses.shape[1]))
        sorted_fronts[rank[row]].add(losses[row])
    return rank


class _Front:
    """The points of a front, in an array with room for more."""

    def __init__(self, width: int) -> None:
        self._points, self._count = np.empty((8, width)), 0

    def add(self, point: Array) -> None:
        if self._count == len(self._points):
            self._points = np.vstack([self._points, np.empty_like(self._points)])
        self._points[self._count] = point
        self._count += 1

    def dominates(self, point: Array) -> bool:
        points = self._points[: self._count]
        return bool(np.any(np.all(points <= point, axis=1) & np.any(points < point, axis=1)))


def crowding(losses: Array) -> Array:
    """The crowding distance of each point, shape (n,): a sum over objectives, in units of each range.

    It is infinite for the points at the ends of an objective's range.
    """
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]] if len(order) else 0.0
        distance[order[[0, -1]] if len(order) else order] = np.inf
        if spread > 0 and len(order) > 2:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return distance


def hypervolume(losses: Array, reference: Array) -> float:
    """The volume that the points dominate, up to a reference point that a point must beat in every objective."""
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[~dominated(inside, inside)]
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    if inside.shape[1] == 2:
        first = np.concatenate([[reference[0]], np.minimum.accumulate(inside[:, 0])])
        return float(np.sum((first[:-1] - first[1:]) * (reference[1] - inside[:, 1])))
    tops = np.append(inside[1:, -1], reference[-1])
    slices = [
        (top - low, inside[:count, :-1]) for count, (low, top) in enumerate(zip(inside[:, -1], tops, strict=True), 1)
    ]
    return sum(float(height) * hypervolume(points, reference[:-1]) for height, points in slices if height > 0)


def losses_of(experiment: Experiment, trials: Iterable[Trial]) -> Array:
    """The losses of trials, shape (trial, objective); NaN for a value that is missing or not finite."""
    rows = [
        [
            np.nan if (value := trial.observed(objective.metric)) is None else objective.loss(value)
            for objective in experiment.objective
        ]
        for trial in trials
    ]
    return np.array(rows, dtype=float).reshape(-1, len(experiment.objective))


def complete(experiment: Experiment, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The trials with a finite value of every objective."""
    names = [objective.metric for objective in experiment.objective]
    return tuple(trial for trial in trials if all(trial.observed(name) is not None for name in names))


def front(experiment: Experiment, trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials that no other dominates, the best by the first objective first, earlier before later equals.

    With a single objective, these are the trials with the best value.
    """
    known = complete(experiment, trials)
    losses = losses_of(experiment, known)
    best = np.flatnonzero(~dominated(losses, losses))
    ordered = sorted(best, key=lambda row: (*losses[row].tolist(), known[row].index))
    return tuple(known[row] for row in ordered)


def hypervolume_over_time(
    experiment: Experiment, history: History, reference: Sequence[float] | None = None
) -> list[tuple[int, float]]:
    """(index, hypervolume of all trials up to this one) pairs, for each trial with a finite value of every objective.

    Args:
        reference: a value of each objective that is worse than any that should count; by default the worst observed.
    """
    known = complete(experiment, history)
    losses = losses_of(experiment, known)
    if not len(losses):
        return []
    pairs = zip(experiment.objective, reference or (), strict=False)
    edge = np.array([objective.loss(value) for objective, value in pairs]) if reference else losses.max(axis=0)
    curve: list[tuple[int, float]] = []
    kept = losses[:0]
    for trial, row in zip(known, losses, strict=True):
        if not dominated(row[None], kept)[0]:
            kept = np.vstack([kept[~dominated(kept, row[None])], row])
            curve.append((trial.index, hypervolume(kept, edge)))
        else:
            curve.append((trial.index, curve[-1][1]))
    return curve
