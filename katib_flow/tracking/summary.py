"""The summary of an experiment in its parent run: the best value over time, counts, and a description for people."""

import re
import shlex
from collections.abc import Iterator, Mapping

from katib_flow.history import History, State, Trial
from katib_flow.spec import Experiment, Objective
from katib_flow.spec.sections import Tracking
from katib_flow.spec.template import as_text
from katib_flow.tracking.encode import Point, milliseconds
from katib_flow.tracking.names import MAX_TAG, escape, readable
from katib_flow.tracking.records import Record, Status
from katib_flow.tracking.views import trials_path

_ALWAYS = (State.RUNNING, State.SUCCEEDED, State.FAILED)


def best_points(experiment: Experiment, history: History, *, closing: bool) -> list[Point]:
    """``best/<metric>`` over the trial index: a point for each trial that was better than all that ended before it.

    The step is the highest index among the trials that had ended by then. Steps never decrease, so that MLflow's latest
    value is the best one. ``closing`` adds a point at the end of the curve.
    """
    return [point for objective in experiment.objective for point in _course(objective, history, closing=closing)]


def _course(objective: Objective, history: History, *, closing: bool) -> Iterator[Point]:
    key, best, last = escape(f"best/{objective.metric}"), None, None
    step = 0
    for trial in sorted(history.completed(objective.metric), key=lambda trial: (trial.ended or 0, trial.index)):
        value, step = trial.observed(objective.metric), max(step, trial.index)
        if value is None:
            continue
        if best is None or objective.loss(value) < objective.loss(best):
            best, last = value, None
            yield Point(key, value, milliseconds(trial.ended) or 0, step)
        else:
            last = trial
    if closing and best is not None and last is not None:
        yield Point(key, best, milliseconds(last.ended) or 0, step)


def counts(history: History, before: Mapping[str, float], now_ms: int) -> list[Point]:
    """``trials/<state>`` for the counts that differ from ``before``, the metrics of the parent run."""
    by_state = history.counts()
    step = len(history)  # it never decreases, so that MLflow's latest value is the newest
    points: list[Point] = []
    for state in State:
        key = f"trials/{state}"
        if (by_state[state] or state in _ALWAYS or key in before) and before.get(key) != by_state[state]:
            points.append(Point(key, float(by_state[state]), now_ms, step))
    return points


def description(record: Record, history: History, status: Status, reason: str) -> str:
    """Markdown for the top of the run's page in MLflow, within the limit of a tag."""
    experiment = record.experiment
    best = experiment.best(history)
    parts = [
        f"**{status}**{f': {_plain(reason)}' if reason else ''} ({_counts(history)})",
        _best(record, best) if best else "No trial has a finite value of the objective yet.",
        f"[All trials side by side]({trials_path(record)})",
        experiment.description,
        _commands(record),
    ]
    return readable("\n\n".join(part for part in parts if part), MAX_TAG)


def _counts(history: History) -> str:
    by_state = history.counts()
    return ", ".join(f"{by_state[state]} {state}" for state in State if by_state[state]) or "no trials yet"


def _best(record: Record, best: Trial) -> str:
    objectives = record.experiment.objective
    values = ", ".join(
        f"{_plain(objective.metric)} = {best.observations.get(objective.metric)} ({objective.direction})"
        for objective in objectives
    )
    name = f"[{best.id}](#/experiments/{record.mlflow_experiment_id}/runs/{best.run_id})" if best.run_id else best.id
    rows = [f"| {_cell(key)} | {_cell(as_text(value))} |" for key, value in list(best.assignment.items())[:30]]
    return f"Best trial {name}: {values}\n\n" + "\n".join(["| parameter | value |", "| --- | --- |", *rows])


def _cell(text: str) -> str:
    return _plain(readable(" ".join(text.split()), 100))


def _plain(text: str) -> str:
    """A text escaped for Markdown: no link, no HTML, no emphasis, no end of a table's cell."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", text)


def _code(text: str) -> str:
    """A text as inline code in Markdown, even if it contains backticks."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"


def _commands(record: Record) -> str:
    return "\n".join(
        [
            "Reproduce, with the same seed:",
            "```",
            *reproduce(record),
            "```",
            f"Continue: {_code(command(record, 'resume'))}. "
            f"Report: {_code(command(record, 'report') + ' -o report.html')}.",
        ]
    )


def reproduce(record: Record) -> list[str]:
    """The commands that run an experiment's spec again."""
    return [f"{command(record, 'spec', record.run_id)} -o spec.yaml", "katib-flow run spec.yaml"]


def command(record: Record, verb: str, name: str = "") -> str:
    """A shell command on an experiment, by its name unless another is given."""
    group = record.experiment.tracking.experiment
    where = [] if group == Tracking().experiment else ["--tracking-experiment", group]
    return shlex.join(["katib-flow", verb, name or record.name, *where])
