"""Encodes a change of a trial for MLflow, and decodes an MLflow run into a trial. Pure functions, without MLflow.

A child run has one param per parameter, for people; the exact suggestion is JSON in ``katib_flow.suggestion``, and the
observations are JSON in ``katib_flow.observations``, so that a history can be read without the series of metrics.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from katib_flow.foreign import END_OF_TIME, from_json, metric_of, number_of
from katib_flow.history import Metric, Origin, Position, State, Suggestion, Trial, continued
from katib_flow.spec.template import as_text
from katib_flow.tracking.names import (
    MAX_PARAM,
    MAX_TAG,
    escape,
    json_tags,
    metric_in,
    number_out,
    read_json,
    readable,
    unescape,
)

PARENT = "mlflow.parentRunId"
_MOST = 2**63 - 1
RUN_STATUS = {
    State.PENDING: "SCHEDULED",
    State.RUNNING: "RUNNING",
    State.SUCCEEDED: "FINISHED",
    State.EARLY_STOPPED: "FINISHED",
    State.FAILED: "FAILED",
    State.METRICS_UNAVAILABLE: "FAILED",
    State.KILLED: "KILLED",
}


class Point(NamedTuple):
    """One value of a metric, as MLflow stores it."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True, slots=True)
class Entry:
    """The data to write to one run.

    Attributes:
        identity: tags that never change, written with a new run; empty for an existing run.
        tags: tags of its state; the state itself comes last, so that a write that is cut short leaves no final state.
        artifact_tags: tags that say that an artifact exists, written after it.
    """

    name: str
    status: str
    started_ms: int
    ended_ms: int | None
    params: Mapping[str, str]
    identity: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Sequence[Point]
    artifact_tags: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Row:
    """A run as read from MLflow."""

    run_id: str
    start_ms: int
    end_ms: int | None
    tags: Mapping[str, str]
    artifact_uri: str = ""
    metric_keys: tuple[str, ...] = ()


def seconds_in(milliseconds: object) -> float:
    """Convert a time that others may have written from milliseconds to seconds since the epoch.

    Raises:
        ValueError: it is not an integer, or not between the years 1970 and 9999.
    """
    if (
        not isinstance(milliseconds, int)
        or isinstance(milliseconds, bool)
        or not 0 <= milliseconds < END_OF_TIME * 1000
    ):
        raise ValueError(f"found {milliseconds!r} as a time, need milliseconds since 1970")
    return milliseconds / 1000


def milliseconds(seconds: float | None) -> int | None:
    """Convert seconds to milliseconds; None stays None."""
    return None if seconds is None else round(seconds * 1000)


def entry(
    trial: Trial,
    metrics: Iterable[Metric],
    parent_run_id: str,
    *,
    new: bool,
    params: bool,
    common: Mapping[str, str],
    least_ms: int = 0,
) -> Entry:
    """The data to write for a trial.

    Args:
        metrics: the metrics to add to its run.
        parent_run_id: the run of its experiment.
        new: True to create its run.
        params: True to write its parameters.
        common: tags that all trials of the experiment share.
        least_ms: the earliest start of a new run in MLflow, in milliseconds since the epoch.
    """
    started = milliseconds(trial.started)
    started_ms = max(_now() if started is None else started, least_ms)
    final = trial.state.final
    return Entry(
        name=trial.id,
        status=RUN_STATUS[trial.state],
        started_ms=started_ms,
        ended_ms=(milliseconds(trial.ended) or _now()) if final else None,
        params={escape(name): readable(as_text(value), MAX_PARAM) for name, value in trial.assignment.items()}
        if params
        else {},
        identity={PARENT: parent_run_id, **common, **_identity(trial)} if new else {},
        tags=_state(trial, started_ms, new=new),
        metrics=[
            Point(escape(metric.name), float(metric.value), _within(metric.timestamp_ms, 0), _within(metric.step))
            for metric in metrics
            if not isinstance(metric.value, tuple)
        ],
    )


def _within(number: int, least: int = -_MOST) -> int:
    """The nearest integer that MLflow can store: a log line may claim any step."""
    return min(max(number, least), _MOST)


def _now() -> int:
    return int(time.time() * 1000)


def _identity(trial: Trial) -> dict[str, str]:
    suggestion = trial.suggestion
    tags = {
        "katib_flow.kind": "trial",
        "katib_flow.trial_id": suggestion.id,
        "katib_flow.index": str(suggestion.index),
        **json_tags("katib_flow.suggestion", suggestion_out(suggestion)),
    }
    for name, value in (
        ("budget", suggestion.budget),
        ("parent_trial", next(iter(suggestion.origin.parents), None)),
        ("iteration", trial.position and trial.position.iteration),
    ):
        if value is not None:
            tags[f"katib_flow.{name}"] = readable(str(value), MAX_TAG)
    return tags


def _state(trial: Trial, started_ms: int, *, new: bool) -> dict[str, str]:
    """The tags of a trial's state; a new run has no empty ones."""
    tags: dict[str, str] = {}
    if trial.observations or not new:
        tags |= json_tags(
            "katib_flow.observations", {name: number_out(value) for name, value in trial.observations.items()}
        )
    if trial.message or not new:
        tags["katib_flow.message"] = readable(trial.message, MAX_TAG)
    if trial.retries or not new:
        tags["katib_flow.retries"] = str(trial.retries)
    if trial.position is not None:
        tags["katib_flow.place"] = json.dumps(trial.position.to_dict())
    if milliseconds(trial.started) != started_ms or not new:  # MLflow fixes a run's start when it is created
        tags["katib_flow.started"] = "" if trial.started is None else str(milliseconds(trial.started))
    return {**tags, "katib_flow.state": str(trial.state)}


def suggestion_out(suggestion: Suggestion) -> dict[str, Any]:
    """A suggestion as plain data, without its topology and without default values."""
    data: dict[str, Any] = {"index": suggestion.index, "assignment": dict(suggestion.assignment)}
    optional: dict[str, Any] = {
        "budget": suggestion.budget,
        "parent": suggestion.parent,
        "info": dict(suggestion.info),
        "key": suggestion.key,
        "origin": suggestion.origin.to_dict() if suggestion.origin != Origin() else None,
        "basis": suggestion.basis.to_dict() if suggestion.basis else None,
    }
    return data | {name: value for name, value in optional.items() if value not in (None, {}, "")}


def suggestion_in(data: Mapping[str, Any], topology: Mapping[str, object] | None = None) -> Suggestion:
    """The suggestion that ``suggestion_out`` encoded, with its topology."""
    return Suggestion.from_dict({**data, "topology": topology})


def trial(row: Row, topology: Mapping[str, object] | None = None) -> Trial:
    """The trial that a run records, without its series."""
    tags = row.tags
    state, position = State(tags["katib_flow.state"]), read_json("katib_flow.place", tags)
    started = tags.get("katib_flow.started", str(row.start_ms))
    return Trial(
        suggestion=suggestion_in(read_json("katib_flow.suggestion", tags), topology),
        state=state,
        observations={
            name: number_of(value) for name, value in (read_json("katib_flow.observations", tags) or {}).items()
        },
        started=seconds_in(int(started)) if started else None,
        ended=seconds_in(row.end_ms) if state.final and row.end_ms is not None else None,
        message=tags.get("katib_flow.message", ""),
        run_id=row.run_id,
        retries=int(tags.get("katib_flow.retries", "0")),
        position=Position.from_dict(position) if position else None,
    )


def with_series(one: Trial, points: Iterable[Point], vectors: Iterable[Metric] = ()) -> Trial:
    """A trial with all values that it reported, by metric, as if it had been run in a single attempt."""
    names = {escape(name): name for name in one.observations}  # the only source for names that were shortened
    reported = [
        metric_of(names.get(point.key) or unescape(point.key), metric_in(point.value), point.step, point.timestamp_ms)
        for point in points
    ]
    series: dict[str, list[Metric]] = {}
    for metric in as_one_try(one, [*reported, *vectors]):
        series.setdefault(metric.name, []).append(metric)
    return replace(one, series={name: tuple(values) for name, values in series.items()})


def as_one_try(trial: Trial, metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics of all attempts of a trial as one series, as ``continued`` joins them, by time and then step."""
    ordered = sorted(metrics, key=lambda metric: (metric.timestamp_ms, metric.step))
    begun_ms = milliseconds(trial.started) or 0  # the start of the last attempt
    earlier = [metric for metric in ordered if metric.timestamp_ms < begun_ms]
    return continued(earlier, ordered[len(earlier) :])


def once(trials: Iterable[Trial]) -> list[Trial]:
    """Remove duplicates, which two competing pods may have recorded; the copy that got further is kept."""
    best: dict[str, Trial] = {}
    for one in trials:
        other = best.get(one.id)
        if other is None or (one.state.final, one.started or 0, one.run_id) > (
            other.state.final,
            other.started or 0,
            other.run_id,
        ):
            best[one.id] = one
    return list(best.values())


def vectors_out(metrics: Iterable[Metric]) -> str:
    """The vector metrics among some metrics as JSON lines; "" if there are no vectors."""
    return "".join(
        json.dumps(
            [metric.name, _within(metric.step), _within(metric.timestamp_ms, 0), list(map(number_out, metric.value))]
        )
        + "\n"
        for metric in metrics
        if isinstance(metric.value, tuple)
    )


def vectors_in(text: str) -> list[Metric]:
    """The metrics that ``vectors_out`` encoded."""
    rows = [from_json(line) for line in text.splitlines()]
    return [metric_of(name, tuple(map(number_of, values)), step, timestamp) for name, step, timestamp, values in rows]
