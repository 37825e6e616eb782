"""A metric's series -> its observation."""

import math
from collections.abc import Iterable, Mapping, Sequence

from katib_flow.history import Metric
from katib_flow.metrics.text import scalars


def reduce(values: Sequence[float], strategy: str) -> float:
    """latest, min or max of a series that is not empty; NaN and infinity only where there is nothing else."""
    if strategy == "latest":
        return values[-1]
    numbers = [value for value in values if not math.isnan(value)]
    best_of = [value for value in numbers if math.isfinite(value)] or numbers or values
    return min(best_of) if strategy == "min" else max(best_of)


def observe(metrics: Iterable[Metric], strategies: Mapping[str, str]) -> dict[str, float]:
    """The observation of every scalar metric that was reported; ``latest`` where no strategy is given."""
    series: dict[str, list[float]] = {}
    for metric, value in scalars(list(metrics)):
        series.setdefault(metric.name, []).append(value)
    return {name: reduce(values, strategies.get(name, "latest")) for name, values in series.items()}
