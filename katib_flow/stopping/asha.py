"""Asynchronous successive halving: end a trial at a rung unless it is among the best 1/eta that have reached the rung.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, section 3.2, in the variant that
stops trials instead of pausing and promoting them (that of Ray Tune, to which the authors refer).
Departs from it: a rung is a number of reported values, so that trials may number their steps in any way.
"""

from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, NotBoolean
from katib_flow.stopping.curve import Curve, Point
from katib_flow.stopping.registry import Running, stopping_rule
from katib_flow.wording import counted


class AshaSettings(Settings):
    """Settings of the rule ``asha``; the symbols of the paper stand in parentheses."""

    start_step: Count = 1
    """Number of values reported at the first rung (r); the next rungs are at r * eta, r * eta^2 ..."""
    eta: Annotated[int, Field(ge=2, le=1000), NotBoolean] = 3
    """Reduction factor: the best 1/eta of the trials at a rung continue."""


@stopping_rule("asha", settings=AshaSettings)
def asha_rule(running: Running[AshaSettings]) -> str:
    """Judge the trial at every rung that it has reached, against the trials that reached it before."""
    others = running.others()
    rung = running.settings.start_step
    while rung <= len(running.curve):
        own = _at(running.curve, rung)
        before = [point for other in others if len(other) >= rung and _earlier(point := _at(other, rung), own)]
        rank = 1 + sum(point.loss < own.loss for point in before)
        if rank > max(1, (len(before) + 1) // running.settings.eta) and len(before) + 1 >= running.settings.eta:
            name = running.experiment.objective[0].metric
            values, count, eta = counted(rung, "value"), len(before) + 1, running.settings.eta
            ranking = f"{running.shown(own.loss)}, ranks {rank} of {count}"
            return f"its {name} after {values}, {ranking}; the best 1/{eta} of the trials continue"
        rung *= running.settings.eta
    return ""


def _at(curve: Curve, rung: int) -> Point:
    """The best loss among the first ``rung`` values, with the step and the time of the last of them."""
    points = curve.points[:rung]
    return Point(points[-1].step, min(point.loss for point in points), points[-1].timestamp_ms)


def _earlier(one: Point, other: Point) -> bool:
    return one.timestamp_ms <= other.timestamp_ms
