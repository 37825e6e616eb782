"""Metrics that a trial logs to its own MLflow run: the variables it needs, and the source that reads them."""

import time
from collections.abc import Callable

from katib_flow.argo.steps.context import Context
from katib_flow.history import Metric, Trial

ASK_SECONDS = 15.0


def pushed_to(context: Context, trial: Trial) -> dict[str, str]:
    """Return the variables with which MLflow clients log to the trial's run; empty if metrics are not pushed."""
    if context.experiment.metrics.source != "push":
        return {}
    ids = {"MLFLOW_RUN_ID": trial.run_id, "MLFLOW_EXPERIMENT_ID": context.record.mlflow_experiment_id}
    return {"MLFLOW_TRACKING_URI": context.store.uri, **ids}


class Pushed:
    """A source of metrics that returns those logged since the previous read, at most every ``ASK_SECONDS``."""

    def __init__(self, context: Context, trial: Trial, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._trial, self._clock = context, trial, clock
        self._due = clock() + ASK_SECONDS
        self._seen: set[Metric] = set()

    def read(self, *, end: bool = False) -> list[Metric]:
        """Return the new metrics; always empty if it is too early to ask again, unless the trial has ended."""
        if self._clock() < self._due and not end:
            return []
        self._due = self._clock() + ASK_SECONDS
        names = self._context.experiment.metric_names
        logged = self._context.store.reported([self._trial], names)[self._trial.id]
        new = [metric for metric in logged if metric not in self._seen]
        self._seen.update(new)
        return new


def source(context: Context, trial: Trial) -> Pushed | None:
    """Return the source of a trial that pushes its metrics; None for other trials."""
    return Pushed(context, trial) if context.experiment.metrics.source == "push" else None
