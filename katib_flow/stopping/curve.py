"""What a trial has reported of the objective, as a curve of losses."""

import math
from dataclasses import dataclass

from katib_flow.history import Trial
from katib_flow.spec.sections import Objective


@dataclass(frozen=True, slots=True)
class Point:
    """The loss at a step: lower is better; infinite where NaN was reported, which is never good."""

    step: int
    loss: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one trial, one a step, in the order of the steps."""

    points: tuple[Point, ...]

    @classmethod
    def of(cls, trial: Trial, objective: Objective) -> "Curve":
        """The curve of a trial whose series is at hand; of a step reported twice, the last report counts."""
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
        """The last step reported; the curve must not be empty."""
        return self.points[-1].step

    def until(self, step: int) -> "Curve":
        return Curve(tuple(point for point in self.points if point.step <= step))

    @property
    def losses(self) -> list[float]:
        return [point.loss for point in self.points]

    @property
    def best(self) -> float:
        return min(self.losses, default=math.inf)

    @property
    def average(self) -> float:
        """The mean of the finite losses; infinite where there is none."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.inf
