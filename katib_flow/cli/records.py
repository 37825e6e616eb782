"""Experiments and trials as rows for the command line."""

import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from katib_flow.history import History
from katib_flow.local import Result
from katib_flow.spec import Experiment
from katib_flow.tracking import Control, Record, Status
from katib_flow.trial.table import rows

if TYPE_CHECKING:
    from katib_flow.reports.importance import Importance

Row = dict[str, Any]


def as_seen_here(record: Record) -> Record:
    """An experiment as it stands; MLflow has one as running whose process was killed, until somebody resumes it."""
    if record.status is Status.RUNNING and record.lease is not None and record.lease.abandoned(time.time()):
        return replace(record, status=Status.INTERRUPTED, reason="its process is gone; resume goes on")
    return record


def overview(record: Record) -> Row:
    """One experiment as a row."""
    record = as_seen_here(record)
    started = datetime.fromtimestamp(record.started).astimezone().isoformat(sep=" ", timespec="seconds")
    fields: Row = {"name": record.name, "run_id": record.run_id, "status": str(record.status), "started": started}
    return fields | {"algorithm": record.experiment.algorithm.name, "reason": record.reason}


def standing(record: Record, history: History, control: Control) -> Row:
    """How one experiment stands."""
    counts = {str(state): count for state, count in sorted(history.counts().items())}
    limits = {"max_trials": control.most_trials(record.experiment)}
    return overview(record) | limits | {"trials": counts, "best": best(record.experiment, history)}


def front_of(experiment: Experiment, history: History, most: int | None = None) -> list[Row]:
    """The trials that no other dominates, the best by the first objective first."""
    from katib_flow.pareto import front

    return rows(experiment, front(experiment, history)[:most])


def ranked(experiment: Experiment, history: History, most: int | None = None) -> list[Row]:
    """The trials that have a value of the first objective, the best first."""
    return rows(experiment, experiment.ranked(history)[:most])


def best(experiment: Experiment, history: History) -> Row | None:
    trial = experiment.best(history)
    return rows(experiment, [trial])[0] if trial else None


def mattering(found: "Importance") -> Row:
    """What each parameter explains of one objective, alone and in pairs."""
    pairs = [{"parameters": list(pair.parameters), "share": pair.share} for pair in found.pairs]
    return {"trials": found.trials, "shares": found.shares, "deviations": found.deviations, "pairs": pairs}


def conclusion(result: Result) -> Row:
    """What a program wants to know of an experiment that ended."""
    fields: Row = {"name": result.name, "run_id": result.run_id, "status": str(result.status), "reason": result.reason}
    fields |= {"trials": len(result.trials), "best": best(result.experiment, result.history)}
    several = len(result.experiment.objective) > 1
    return fields | ({"front": front_of(result.experiment, result.history)} if several else {})
