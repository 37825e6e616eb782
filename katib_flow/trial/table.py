"""Trials as rows of plain values, for tables, JSON, CSV and data frames."""

from collections.abc import Iterable, Mapping
from typing import Any

from katib_flow.history import Trial
from katib_flow.spec.experiment import Experiment


def rows(experiment: Experiment, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One flat record a trial; an inactive parameter and a metric that was not reported are None.

    A parameter and a metric may have one name, or the name of another column; they are then told apart by a prefix.
    """
    reserved = {"trial", "state", "budget", "parent", "seconds", "retries", "message"}
    parameters, metrics = list(experiment.parameters), list(experiment.metric_names)
    parameter_names = {name: f"parameter.{name}" if name in reserved else name for name in parameters}
    metric_names = {name: f"metric.{name}" if name in reserved or name in parameters else name for name in metrics}
    trials = list(trials)
    lineage = any(trial.suggestion.parent is not None for trial in trials)
    return [
        {"trial": trial.id, "state": str(trial.state)}
        | {metric_names[name]: trial.observations.get(name) for name in metrics}
        | {parameter_names[name]: trial.assignment.get(name) for name in parameters}
        | ({"budget": trial.suggestion.budget} if experiment.budget else {})
        | ({"parent": trial.suggestion.parent} if lineage else {})
        | {
            "seconds": round(trial.ended - trial.started, 3) if trial.ended and trial.started else None,
            "retries": trial.retries,
            "message": trial.message,
        }
        for trial in trials
    ]


def cell(value: Any) -> str:
    """A value as a person reads it in a table or a line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(each)}" for name, each in value.items())
    return str(value)
