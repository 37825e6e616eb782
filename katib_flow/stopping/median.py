"""The median rule: end a trial whose best value so far is worse than the median of the other trials' averages.

Paper: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2.
Departs from it: no trial ends before ``min_trials`` and ``start_step``, which are Katib's settings.
"""

from statistics import median
from typing import Annotated

from pydantic import AliasChoices, Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count
from katib_flow.stopping.registry import Running, stopping_rule
from katib_flow.wording import counted


class MedianSettings(Settings):
    """Settings of the rule ``median``."""

    min_trials: Annotated[Count, Field(validation_alias=AliasChoices("min_trials", "min_trials_required"))] = 3
    """Number of trials that must have ended after reaching the same step."""
    start_step: Count = 4
    """Number of values that a trial must have reported before it is judged."""


@stopping_rule("median", settings=MedianSettings, aliases=("medianstop",))
def median_rule(running: Running[MedianSettings]) -> str:
    """Compare the best value with the averages, up to the same step, of the trials that have ended."""
    curve, settings = running.curve, running.settings
    if len(curve) < settings.start_step:
        return ""
    averages = [other.until(curve.step).average for other in running.ended() if other.step >= curve.step]
    if len(averages) < settings.min_trials or curve.best <= (middle := median(averages)):
        return ""
    name = running.experiment.objective[0].metric
    return (
        f"its best {name} by step {curve.step}, {running.shown(curve.best)}, is worse than {running.shown(middle)}, "
        f"the median of the averages of {counted(len(averages), 'trial')}"
    )
