"""Reduces the series of a metric to its observation, over all reported values and in constant memory."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from katib_flow.history import Metric
from katib_flow.metrics.text import scalars


@dataclass(slots=True)
class Reduction:
    """The latest, lowest and highest value of a non-empty series, updated with each value.

    Attributes:
        low, high: of the finite values; infinite if no value is finite, NaN if all are NaN.
    """

    latest: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float) -> "Reduction":
        """The reduction of a single value."""
        return cls(value, value, value)

    def add(self, value: float) -> None:
        """Add a value, the newest one."""
        self.then(Reduction.of(value))

    def then(self, later: "Reduction") -> None:
        """Add the series that follows this one."""
        self.latest = later.latest
        gain = _worth(later.low) - _worth(self.low)
        if gain > 0:
            self.low, self.high = later.low, later.high
        elif gain == 0 and not math.isnan(self.low):
            self.low, self.high = min(self.low, later.low), max(self.high, later.high)

    def by(self, strategy: str) -> float:
        """The observation: ``latest``, ``min`` or ``max``."""
        return {"latest": self.latest, "min": self.low, "max": self.high}[strategy]


def _worth(value: float) -> int:
    return 2 if math.isfinite(value) else 0 if math.isnan(value) else 1


def reduce(values: Sequence[float], strategy: str) -> float:
    """The ``latest``, ``min`` or ``max`` of a non-empty series; min and max prefer finite values, NaN comes last."""
    reduction = Reduction.of(values[0])
    for value in values:
        reduction.add(value)
    return reduction.by(strategy)


def reductions(metrics: Iterable[Metric], before: dict[str, Reduction] | None = None) -> dict[str, Reduction]:
    """The reduction of every scalar metric, by name.

    Args:
        before: the reductions of earlier metrics, which are updated.
    """
    reduced = {} if before is None else before
    for metric, value in scalars(metrics):
        if metric.name in reduced:
            reduced[metric.name].add(value)
        else:
            reduced[metric.name] = Reduction.of(value)
    return reduced


def observe(metrics: Iterable[Metric], strategies: Mapping[str, str]) -> dict[str, float]:
    """The observation of every reported scalar metric, by name; the default strategy is ``latest``."""
    return observations(reductions(metrics), strategies)


def observations(reduced: Mapping[str, Reduction], strategies: Mapping[str, str]) -> dict[str, float]:
    """The observation of every reduced series, by name."""
    return {name: reduction.by(strategies.get(name, "latest")) for name, reduction in reduced.items()}
