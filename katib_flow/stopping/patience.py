"""Patience: end a trial that has not got better for some number of reports."""

from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, Real
from katib_flow.stopping.registry import Running, stopping_rule


class PatienceSettings(Settings):
    patience: Count = 5
    """how many reports in a row without a better value end the trial"""
    min_delta: Annotated[Real, Field(ge=0)] = 0.0
    """by how much a value must be better to count as better"""
    start_step: Count = 1
    """how many values a trial has reported when its patience begins"""


@stopping_rule("patience", settings=PatienceSettings)
def patience_rule(running: Running[PatienceSettings]) -> str:
    settings, losses = running.settings, running.curve.losses
    best, since = losses[0], 0
    for count, loss in enumerate(losses, 1):
        better = loss < best - settings.min_delta
        since = 0 if better or count <= settings.start_step else since + 1
        best = loss if better or count == 1 else best
    if since < settings.patience:
        return ""
    name = running.experiment.objective[0].metric
    return f"its {name} has not got better than {running.shown(best)} in {since} reports"
