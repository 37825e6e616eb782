"""A metric's series -> its observation: over all that was reported, in constant memory."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from katib_flow.history import Metric
from katib_flow.metrics.text import scalars


@dataclass(slots=True)
class Reduction:
    """The latest, lowest and highest value of a series that is not empty, as it comes.

    Attributes:
        low, high: of the finite values; infinity and NaN only where there is nothing else, NaN last.
    """

    latest: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float) -> "Reduction":
        return cls(value, value, value)

    def add(self, value: float) -> None:
        """Take one more value, the newest."""
        self.then(Reduction.of(value))

    def then(self, later: "Reduction") -> None:
        """Take the series that follows this one."""
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
    """latest, min or max of a series that is not empty; NaN and infinity only where there is nothing else."""
    reduction = Reduction.of(values[0])
    for value in values:
        reduction.add(value)
    return reduction.by(strategy)


def reductions(metrics: Iterable[Metric], before: dict[str, Reduction] | None = None) -> dict[str, Reduction]:
    """The reduction of every scalar metric, by name.

    Args:
        before: what came before; it takes what is new.
    """
    found = {} if before is None else before
    for metric, value in scalars(metrics):
        if metric.name in found:
            found[metric.name].add(value)
        else:
            found[metric.name] = Reduction.of(value)
    return found


def observe(metrics: Iterable[Metric], strategies: Mapping[str, str]) -> dict[str, float]:
    """The observation of every scalar metric that was reported; ``latest`` where no strategy is given."""
    return observations(reductions(metrics), strategies)


def observations(reduced: Mapping[str, Reduction], strategies: Mapping[str, str]) -> dict[str, float]:
    """The observation of every series, by name."""
    return {name: reduction.by(strategies.get(name, "latest")) for name, reduction in reduced.items()}
