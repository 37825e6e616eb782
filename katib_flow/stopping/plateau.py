"""Plateau: end a trial whose last values hardly differ: it has converged, well or badly."""

import math
from statistics import pstdev
from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, NotBoolean, Real
from katib_flow.stopping.registry import Running, stopping_rule


class PlateauSettings(Settings):
    window: Annotated[int, Field(ge=2), NotBoolean] = 4
    """how many of the last values are looked at"""
    tolerance: Annotated[Real, Field(ge=0)] = 0.001
    """their standard deviation, at most, in units of the metric"""
    start_step: Count = 4
    """how many values a trial has reported when it is judged for the first time"""


@stopping_rule("plateau", settings=PlateauSettings)
def plateau_rule(running: Running[PlateauSettings]) -> str:
    settings, losses = running.settings, running.curve.losses
    if len(losses) < max(settings.start_step, settings.window):
        return ""
    last = losses[-settings.window :]
    if not all(map(math.isfinite, last)) or (spread := pstdev(last)) > settings.tolerance:
        return ""
    name = running.experiment.objective[0].metric
    return f"the last {settings.window} values of its {name} differ by {spread:.2g} (standard deviation)"
