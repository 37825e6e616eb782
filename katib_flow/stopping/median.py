"""The median rule: end a trial whose best value so far is worse than the median of the others' averages by that step.

Paper: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2.
Departs from it: ``min_trials`` and ``start_step`` (Katib's), before which nothing is ended.
"""

from statistics import median
from typing import Annotated

from pydantic import AliasChoices, Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count
from katib_flow.stopping.registry import Running, stopping_rule


class MedianSettings(Settings):
    min_trials: Annotated[Count, Field(validation_alias=AliasChoices("min_trials", "min_trials_required"))] = 3
    """how many trials must have ended that got as far as this one"""
    start_step: Count = 4
    """how many values a trial has reported when it is judged for the first time"""


@stopping_rule("median", settings=MedianSettings, aliases=("medianstop",))
def median_rule(running: Running[MedianSettings]) -> str:
    curve, settings = running.curve, running.settings
    if len(curve) < settings.start_step:
        return ""
    averages = [other.until(curve.step).average for other in running.ended() if other.step >= curve.step]
    if len(averages) < settings.min_trials or curve.best <= (middle := median(averages)):
        return ""
    name = running.experiment.objective[0].metric
    return (
        f"its best {name} by step {curve.step}, {running.shown(curve.best)}, is worse than {running.shown(middle)}, "
        f"the median of the averages of {len(averages)} trials"
    )
