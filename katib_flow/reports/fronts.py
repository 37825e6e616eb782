"""Several objectives: the front of undominated trials, and the growth of the volume that it dominates."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from katib_flow.history import History, Trial
from katib_flow.pareto import complete, hypervolume_over_time, losses_of
from katib_flow.reports import charts
from katib_flow.reports.blocks import Chart, Figure, Section, Text
from katib_flow.reports.tables import trial_table
from katib_flow.spec.experiment import Experiment

Array = NDArray[np.float64]
MOST_ROWS = 200
MOST_PAIRS = 3
SAMPLES = 20_000
"""Random points that estimate the volume for three or more objectives, with an error below half a percent."""


def front_sections(experiment: Experiment, history: History, best: Sequence[Trial]) -> Iterator[Section]:
    """The front, and the hypervolume over the trials; nothing if there is no front.

    Args:
        best: the trials on the front.
    """
    if not best:
        return
    known = history.completed(*(objective.metric for objective in experiment.objective))
    pairs = list(combinations(experiment.objective, 2))
    drawn = pairs[:MOST_PAIRS]
    remarks = [
        f"{len(drawn)} of {len(pairs)} pairs of objectives are drawn." if len(drawn) < len(pairs) else "",
        f"{MOST_ROWS} of {len(best):,} trials on the front are listed." if len(best) > MOST_ROWS else "",
    ]
    yield Section(
        "The front",
        [
            *(
                Chart(charts.front_of(one, other, known, best, joined=len(pairs) == 1), "", 360,
                      f"{one.metric} against {other.metric}")
                for one, other in drawn
            ),
            *(Text(remark, soft=True) for remark in remarks if remark),
            trial_table(experiment, best[:MOST_ROWS]),
        ],
    )  # fmt: skip
    course = volume_over_time(experiment, history)
    if len(course) > 1:
        said = (
            "The dominated share of the box between the worst and the best value of each objective"
            f"{', estimated' if len(experiment.objective) > 2 else ''}. It never decreases, and levels off when "
            "further trials find nothing better."
        )
        yield Section("Hypervolume", [Chart(volume(course), said, 300, "Hypervolume over the trials")])


def volume_over_time(experiment: Experiment, history: History) -> list[tuple[int, float]]:
    """The index of each trial with values of all objectives, and the share of the box dominated so far, in [0, 1].

    The box lies between the best and the worst value of each objective; outliers count as the worst of the other
    values. For three or more objectives the share is estimated with ``SAMPLES`` points: the exact volume takes minutes.
    """
    known = complete(experiment, history)
    losses = losses_of(experiment, known)
    if not len(losses):
        return []
    low, high = losses.min(axis=0), _edge(experiment, known)
    if not (high > low).all():
        return []
    if losses.shape[1] == 2:
        reference = [value if objective.direction == "minimize" else -value
                     for objective, value in zip(experiment.objective, high.tolist(), strict=True)]  # fmt: skip
        box = float((high - low).prod())
        return [(index, size / box) for index, size in hypervolume_over_time(experiment, history, reference)]
    return _estimated(known, (losses - low) / (high - low))


def _edge(experiment: Experiment, trials: Sequence[Trial]) -> Array:
    """The greatest loss of each objective, without outliers."""
    edges: list[float] = []
    for objective in experiment.objective:
        values = [trial.observations[objective.metric] for trial in trials]
        spread, _ = charts.window(values, objective)
        losses = [objective.loss(value) for value in values]
        edges.append(max(losses) if spread is None else max(loss for loss in losses
                                                            if loss <= max(map(objective.loss, spread))))  # fmt: skip
    return np.array(edges)


def _estimated(trials: Sequence[Trial], losses: Array) -> list[tuple[int, float]]:
    """The share of random points in the unit cube that the rows of losses so far dominate."""
    left = np.random.default_rng(0).random((SAMPLES, losses.shape[1]))
    course: list[tuple[int, float]] = []
    for trial, row in zip(trials, losses, strict=True):
        left = left[~(left >= row).all(axis=1)]
        course.append((trial.index, 1 - len(left) / SAMPLES))
    return course


def volume(course: Sequence[tuple[int, float]]) -> Figure:
    """The dominated share over the index of trials, with a point wherever it grew."""
    ends = (0, len(course) - 1)
    kept = [point for position, point in enumerate(course) if position in ends or point[1] > course[position - 1][1]]

    line = {
        "type": "scatter",
        "mode": "lines+markers" if len(kept) <= 200 else "lines",
        "x": [index for index, _ in kept],
        "y": [charts.number(share) for _, share in kept],
        "line": {"shape": "hv", "color": charts.BLUE, "width": 2.5},
        "marker": {"size": 5},
        "hovertemplate": "trial %{x}: %{y:.1%}<extra></extra>",
    }
    y = charts.axis("dominated share", tickformat=".0%", rangemode="tozero")
    return {"data": [line], "layout": {"xaxis": charts.axis("trial"), "yaxis": y, "hovermode": "closest"}}
