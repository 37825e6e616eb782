"""The objective values that a trial has reported, as a curve of losses."""

import math
from dataclasses import dataclass

from katib_flow.history import Trial
from katib_flow.spec.sections import Objective


@dataclass(frozen=True, slots=True)
class Point:
    """The loss at a step; lower is better, and a reported NaN is infinite."""

    step: int
    loss: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one trial, one per step, in the order of the steps."""

    points: tuple[Point, ...]

    @classmethod
    def from_trial(cls, trial: Trial, objective: Objective) -> "Curve":
        """The curve of a trial with its series; if a step was reported twice, the last report counts."""
        points: dict[int, Point] = {}
        for metric in trial.series.get(objective.metric, ()):
            if not isinstance(metric.value, tuple):
                loss = objective.loss(metric.value)
                points[metric.step] = Point(metric.step, math.inf if math.isnan(loss) else loss, metric.timestamp_ms)
        return cls(tuple(points[step] for step in sorted(points)))

    def __len__(self) -> int:
        return len(self.points)

    @property
    def step(self) -> int:
        """The last reported step.

        Raises:
            IndexError: the curve is empty.
        """
        return self.points[-1].step

    def until(self, step: int) -> "Curve":
        """The part of the curve up to a step, inclusive."""
        return Curve(tuple(point for point in self.points if point.step <= step))

    @property
    def losses(self) -> list[float]:
        """The losses in the order of the steps; infinite where NaN was reported."""
        return [point.loss for point in self.points]

    @property
    def best(self) -> float:
        """The lowest loss; infinite if the curve is empty."""
        return min(self.losses, default=math.inf)

    @property
    def average(self) -> float:
        """The mean of the finite losses; infinite if there are no finite losses."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.inf
