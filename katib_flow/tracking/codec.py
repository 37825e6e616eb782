"""Trials as MLflow has them, and back exactly: parameters for people, tags of JSON for programs.

Params hold each parameter as text. The tags ``katib_flow.suggestion`` and ``katib_flow.trial`` hold the same facts as
JSON, cut into chunks where they are longer than a tag may be, so that 1, 1.0, true and 10 kB of any text read back.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from katib_flow.history import Metric, State, Suggestion, Trial
from katib_flow.metrics.text import scalars
from katib_flow.spec.template import as_text

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
RUN_NAME = "mlflow.runName"
PREFIX = "katib_flow."
KIND, NAME, KEY, STATUS, REASON = (PREFIX + name for name in ("kind", "name", "key", "status", "reason"))
TRIAL_ID, SUGGESTION, TRIAL = (PREFIX + name for name in ("trial_id", "suggestion", "trial"))
CONTROL = PREFIX + "control."
CHUNK = 4500  # characters; MLflow's limit is 8,000, older servers' 5,000
PARAM_LIMIT = 6000
_NAME_LIMIT = 250


def legal(name: str) -> str:
    """A name that MLflow takes: what it refuses becomes ``_``. The exact name stays in the tags."""
    return re.sub(r"[^/\w.\- ]", "_", name).strip("/")[:_NAME_LIMIT] or "_"


def chunked(name: str, text: str) -> dict[str, str]:
    """One tag, or several: ``name``, ``name.1``, ``name.2`` ..."""
    pieces = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)] or [""]
    return {name if number == 0 else f"{name}.{number}": piece for number, piece in enumerate(pieces)}


def joined(name: str, tags: Mapping[str, str]) -> str:
    def pieces() -> Iterator[str]:
        number = 0
        while (tag := name if number == 0 else f"{name}.{number}") in tags:
            yield tags[tag]
            number += 1

    return "".join(pieces())


def trial_params(trial: Trial) -> dict[str, str]:
    """The parameters as text, for people; longer ones are cut."""
    texts = {legal(name): as_text(value) for name, value in trial.assignment.items()}
    return {name: text if len(text) <= PARAM_LIMIT else text[: PARAM_LIMIT - 1] + "…" for name, text in texts.items()}


def trial_tags(trial: Trial, parent_run_id: str, *, new: bool) -> dict[str, str]:
    """The tags of a trial's run; those that never change only where it is new."""
    suggestion = trial.suggestion
    facts = {
        "state": trial.state,
        "observations": dict(trial.observations),
        "started": trial.started,
        "ended": trial.ended,
        "message": trial.message[:2000],
        "retries": trial.retries,
    }
    tags = {PREFIX + "state": str(trial.state), **chunked(TRIAL, json.dumps(facts))}
    if trial.message:
        tags[NOTE] = trial.message[:2000]
    if new:
        tags |= {PARENT: parent_run_id, KIND: "trial", TRIAL_ID: trial.id, PREFIX + "index": str(trial.index)}
        tags |= chunked(SUGGESTION, json.dumps(suggestion.to_dict()))
        named = {"budget": suggestion.budget, "parent_trial": suggestion.parent, "iteration": suggestion.info.get("iteration")}
        tags |= {PREFIX + name: f"{value}" for name, value in named.items() if value is not None}
    return tags


def trial_of(run_id: str, tags: Mapping[str, str], series: Mapping[str, tuple[Metric, ...]] | None = None) -> Trial:
    """The trial that a run records.

    Raises:
        ValueError, KeyError: the tags are not ours.
    """
    facts: dict[str, Any] = json.loads(joined(TRIAL, tags))
    suggestion = Suggestion.from_dict(json.loads(joined(SUGGESTION, tags)))
    facts["state"] = State(facts["state"])
    return Trial(suggestion, **facts, series=series or {}, run_id=run_id)


def run_status(state: State) -> str:
    """MLflow's status of a run for a trial's state."""
    return {
        State.PENDING: "SCHEDULED",
        State.RUNNING: "RUNNING",
        State.FAILED: "FAILED",
        State.METRICS_UNAVAILABLE: "FAILED",
        State.KILLED: "KILLED",
    }.get(state, "FINISHED")


def numbers(metrics: tuple[Metric, ...]) -> list[tuple[str, float, int, int]]:
    """Scalar metrics as (name, value, timestamp in ms, step)."""
    return [(legal(metric.name), value, metric.timestamp_ms, metric.step) for metric, value in scalars(metrics)]


def vectors(metrics: tuple[Metric, ...]) -> dict[str, str]:
    """Vector metrics as artifacts: path -> JSON."""
    return {
        f"vectors/{legal(metric.name).replace('/', '_')}-{metric.step:06}.json": json.dumps(
            {"name": metric.name, "step": metric.step, "timestamp_ms": metric.timestamp_ms, "value": list(metric.value)}
        )
        for metric in metrics
        if isinstance(metric.value, tuple)
    }
