"""Asynchronous successive halving: end a trial at a rung unless it is among the best 1/eta of those that were there.

Paper: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, section 3.2, in the form that
stops trials in place of pausing and promoting them (Ray Tune's, which the paper's authors point to).
Departs from it: a rung is a number of reported values, so that a trial's own steps may be numbered in any way.
"""

from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, NotBoolean
from katib_flow.stopping.curve import Curve, Point
from katib_flow.stopping.registry import Running, stopping_rule


class AshaSettings(Settings):
    start_step: Count = 1
    """how many values a trial has reported at the first rung, r; the next are at r * eta, r * eta^2 ..."""
    eta: Annotated[int, Field(ge=2, le=1000), NotBoolean] = 3
    """one in so many goes on from each rung"""


@stopping_rule("asha", settings=AshaSettings)
def asha_rule(running: Running[AshaSettings]) -> str:
    others = running.others()
    rung = running.settings.start_step
    while rung <= len(running.curve):
        own = _at(running.curve, rung)
        before = [each for other in others if len(other) >= rung and _earlier(each := _at(other, rung), own)]
        rank = 1 + sum(each.loss < own.loss for each in before)
        if rank > max(1, (len(before) + 1) // running.settings.eta) and len(before) + 1 >= running.settings.eta:
            name = running.experiment.objective[0].metric
            place = f"{running.shown(own.loss)} is number {rank} of the {len(before) + 1} that came so far"
            return f"its {name} after {rung} values, {place}; one in {running.settings.eta} goes on"
        rung *= running.settings.eta
    return ""


def _at(curve: Curve, rung: int) -> Point:
    """The best loss of the first ``rung`` values, at the time of the last of them."""
    points = curve.points[:rung]
    return Point(points[-1].step, min(point.loss for point in points), points[-1].timestamp_ms)


def _earlier(one: Point, other: Point) -> bool:
    return one.timestamp_ms <= other.timestamp_ms
