"""An experiment as the tags and params of its parent run, which users can edit in MLflow's UI."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from katib_flow.errors import TrackingError
from katib_flow.foreign import END_OF_TIME, from_json
from katib_flow.spec import Experiment
from katib_flow.tracking.api import Run
from katib_flow.tracking.encode import seconds_in
from katib_flow.tracking.faults import has_password, shown
from katib_flow.tracking.lease import Lease
from katib_flow.tracking.names import MAX_PARAM, escape, read_json, readable
from katib_flow.tracking.records import Control, Record, Status


def without_password(experiment: Experiment) -> Experiment:
    """The experiment to record: a password in its URI would be visible to all readers of the store or the report."""
    if experiment.tracking.uri is None or not has_password(experiment.tracking.uri):
        return experiment
    tracking = experiment.tracking.model_copy(update={"uri": shown(experiment.tracking.uri)})
    return experiment.model_copy(update={"tracking": tracking})


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < END_OF_TIME


_YES_NO = (lambda value: isinstance(value, bool), "true or false")
WHOLE = (_is_whole, "a whole number of at least 0")
_CONTROLS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "stop": _YES_NO,
    "pause": _YES_NO,
    "max_trials": (lambda value: value is None or _is_whole(value), "a whole number of at least 0, or null"),
    "timeout": (lambda value: value is None or _is_time(value), "a number of seconds of at least 0, or null"),
    "spent": (_is_time, "a number of seconds of at least 0"),
    "resumed": (lambda value: value is None or _is_time(value), "seconds since the epoch, or null"),
}
"""A check for the value of each tag of ``Control``, with its description."""


def control_of(tags: Mapping[str, str]) -> Control:
    """The user's requests in the tags of a parent run.

    Raises:
        TrackingError: the value of a tag is not one that the request can have.
    """
    return Control(
        **{
            item.name: checked(key, tags[key], *_CONTROLS[item.name])
            for item in fields(Control)
            if tags.get(key := f"katib_flow.{item.name}")
        }
    )


def checked(tag: str, text: str, fits: Callable[[object], bool], need: str) -> Any:
    """The value of a tag, which may have been edited by hand in MLflow's UI.

    Args:
        fits: whether a value is one that the tag can have.
        need: what the tag needs, for the message.

    Raises:
        TrackingError: the text is not JSON, or the value does not fit.
    """
    with suppress(ValueError):
        value = from_json(text)
        if fits(value):
            return value
    raise TrackingError(f"tag {tag}: found {text!r}, need JSON: {need}")


def key_hash(key: str) -> str:
    """The tag by which a run is found from its key, which may be too long for a tag or contain quotes."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def record_of(run: Run) -> Record:
    """The experiment that a parent run records.

    Raises:
        TrackingError: the run records no experiment that this version can read.
    """
    tags = run.tags
    try:
        experiment = Experiment.parse(read_json("katib_flow.spec", tags))
        status = Status(tags["katib_flow.status"])
        started = seconds_in(run.start_ms)
        ended = seconds_in(run.end_ms) if status.final and run.end_ms else None
    except (KeyError, ValueError) as error:  # InvalidSpec is a ValueError
        what = "its experiment cannot be read by this version"
        raise TrackingError(f"run {run.run_id}: {what}: {error}") from error
    return Record(
        run_id=run.run_id,
        name=experiment.name,
        experiment=experiment,
        status=status,
        reason=tags.get("katib_flow.reason", ""),
        started=started,
        ended=ended,
        artifact_uri=run.artifact_uri,
        mlflow_experiment_id=run.experiment_id,
        key=tags.get("katib_flow.key", ""),
        lease=Lease.read(tags),
    )


def params_of(experiment: Experiment) -> dict[str, str]:
    """The params of the parent run, by which MLflow's UI compares experiments."""
    objectives = {f"objective.{objective.metric}": objective.direction for objective in experiment.objective}
    goals = {f"goal.{item.metric}": item.goal for item in experiment.objective if item.goal is not None}
    settings = {f"algorithm.{name}": value for name, value in experiment.algorithm.settings.items()}
    limits = {f"limits.{name}": value for name, value in experiment.limits.model_dump().items() if value is not None}
    budget = experiment.budget.model_dump() if experiment.budget else {}
    data: dict[str, Any] = {
        "algorithm": experiment.algorithm.name,
        **({"algorithm.why": experiment.algorithm.why} if experiment.algorithm.why else {}),
        "seed": experiment.algorithm.seed,
        **settings,
        **objectives,
        **goals,
        **limits,
        **{f"budget.{name}": value for name, value in budget.items()},
        **({"early_stopping": experiment.early_stopping.name} if experiment.early_stopping else {}),
        "trial": experiment.trial.kind,
        **{f"trial.arguments.{name}": value for name, value in experiment.trial.arguments.items()},
    }
    return {
        escape(name): readable(value if isinstance(value, str) else json.dumps(value, default=str), MAX_PARAM)
        for name, value in data.items()
    }
