"""Patience: end a trial that has not improved for a number of reports."""

from typing import Annotated

from pydantic import Field

from katib_flow.plugins import Settings
from katib_flow.spec.model import Count, Real
from katib_flow.stopping.registry import Running, stopping_rule
from katib_flow.wording import counted


class PatienceSettings(Settings):
    """Settings of the rule ``patience``."""

    patience: Count = 5
    """Number of consecutive reports without an improvement after which a trial ends."""
    min_delta: Annotated[Real, Field(ge=0)] = 0.0
    """Smallest change that counts as an improvement, in units of the metric."""
    start_step: Count = 1
    """Number of reported values after which the reports are counted."""


@stopping_rule("patience", settings=PatienceSettings)
def patience_rule(running: Running[PatienceSettings]) -> str:
    """Count the reports since the last improvement."""
    settings, losses = running.settings, running.curve.losses
    best, since = losses[0], 0
    for count, loss in enumerate(losses, 1):
        better = loss < best - settings.min_delta
        since = 0 if better or count <= settings.start_step else since + 1
        best = loss if better or count == 1 else best
    if since < settings.patience:
        return ""
    name = running.experiment.objective[0].metric
    return f"its {name} has not improved on {running.shown(best)} in {counted(since, 'report')}"
