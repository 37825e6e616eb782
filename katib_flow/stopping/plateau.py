"""Plateau: end a trial whose last values hardly differ, because it has converged, whether well or badly."""

import math
from statistics import pstdev
from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, NotBoolean, Real
from katib_flow.stopping.registry import Running, stopping_rule


class PlateauSettings(Settings):
    """Settings of the rule ``plateau``."""

    window: Annotated[int, Field(ge=2), NotBoolean] = 4
    """Number of last values to compare."""
    tolerance: Annotated[Real, Field(ge=0)] = 0.001
    """Largest standard deviation of these values at which a trial ends, in units of the metric."""
    start_step: Count = 4
    """Number of values that a trial must have reported before it is judged."""


@stopping_rule("plateau", settings=PlateauSettings)
def plateau_rule(running: Running[PlateauSettings]) -> str:
    """Compare the standard deviation of the last values with the tolerance."""
    settings, losses = running.settings, running.curve.losses
    if len(losses) < max(settings.start_step, settings.window):
        return ""
    last = losses[-settings.window :]
    if not all(map(math.isfinite, last)) or (spread := pstdev(last)) > settings.tolerance:
        return ""
    name = running.experiment.objective[0].metric
    small = f"{spread:.2g}, at most the tolerance of {settings.tolerance:g}"
    return f"the last {settings.window} values of its {name} have a standard deviation of {small}"
