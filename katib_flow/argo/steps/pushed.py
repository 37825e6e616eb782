"""Metrics that a trial logs to its own MLflow run: what it is told, and what it has logged so far."""

import time
from collections.abc import Callable

from katib_flow.argo.steps.context import Context
from katib_flow.history import Metric, Trial

ASK_SECONDS = 15.0


def pushed_to(context: Context, trial: Trial) -> dict[str, str]:
    """Environment variables with which MLflow's clients log to the trial's run; none where nothing is pushed."""
    if context.experiment.metrics.source != "push":
        return {}
    ids = {"MLFLOW_RUN_ID": trial.run_id, "MLFLOW_EXPERIMENT_ID": context.record.mlflow_experiment_id}
    return {"MLFLOW_TRACKING_URI": context.store.uri, **ids}


class Pushed:
    """A source of metrics: what has been logged since it was last asked."""

    def __init__(self, context: Context, trial: Trial, clock: Callable[[], float] = time.monotonic) -> None:
        self._context, self._trial, self._clock = context, trial, clock
        self._due = clock() + ASK_SECONDS
        self._seen: set[Metric] = set()

    def read(self, *, end: bool = False) -> list[Metric]:
        if self._clock() < self._due and not end:
            return []
        self._due = self._clock() + ASK_SECONDS
        names = self._context.experiment.metric_names
        found = self._context.store.reported([self._trial], names)[self._trial.id]
        new = [metric for metric in found if metric not in self._seen]
        self._seen.update(new)
        return new


def source(context: Context, trial: Trial) -> Pushed | None:
    """Where the metrics of a trial that pushes them are read; None for any other."""
    return Pushed(context, trial) if context.experiment.metrics.source == "push" else None
