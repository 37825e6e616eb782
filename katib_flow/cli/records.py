"""Experiments and trials as rows for the command line."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from katib_flow.history import History
from katib_flow.spec import Experiment
from katib_flow.tracking import Control, Record, Status
from katib_flow.trial.table import rows
from katib_flow.wording import counted

if TYPE_CHECKING:  # a command that only reads loads no algorithm
    from katib_flow.local import Result
    from katib_flow.replay import Replayed
    from katib_flow.reports.importance import Importance

Row = dict[str, Any]
MOST_CHARACTERS = 80  # longest value in a table of differences


def as_seen_here(record: Record) -> Record:
    """An experiment with its actual status: if its process was killed, MLflow has it as running until it is resumed."""
    if record.status is Status.RUNNING and record.lease is not None and record.lease.abandoned(time.time()):
        return replace(record, status=Status.INTERRUPTED, reason="its process is gone; resume it to continue")
    return record


def overview(record: Record) -> Row:
    """A row with the name, run id, status, start, algorithm and reason of an experiment."""
    record = as_seen_here(record)
    started = datetime.fromtimestamp(record.started).astimezone().isoformat(sep=" ", timespec="seconds")
    fields: Row = {"name": record.name, "run_id": record.run_id, "status": str(record.status), "started": started}
    return fields | {"algorithm": record.experiment.algorithm.name, "reason": record.reason}


def standing(record: Record, history: History, control: Control) -> Row:
    """The row of ``overview``, with the limit on trials, the number of trials by state, and the best trial."""
    counts = {str(state): count for state, count in sorted(history.counts().items())}
    limits = {"max_trials": control.most_trials(record.experiment)}
    return overview(record) | limits | {"trials": counts, "best": best(record.experiment, history)}


def front_of(experiment: Experiment, history: History, most: int | None = None) -> list[Row]:
    """Rows of the trials that no other dominates, the best by the first objective first; at most ``most``."""
    from katib_flow.pareto import front

    return rows(experiment, front(experiment, history)[:most])


def ranked(experiment: Experiment, history: History, most: int | None = None) -> list[Row]:
    """Rows of the trials with a finite value of the first objective, the best first; at most ``most``."""
    return rows(experiment, experiment.ranked(history)[:most])


def best(experiment: Experiment, history: History) -> Row | None:
    """The row of the best trial by the first objective; None if no trial has a finite value."""
    trial = experiment.best(history)
    return rows(experiment, [trial])[0] if trial else None


def importance_of(result: "Importance") -> Row:
    """The share of an objective's variance that each parameter, and each pair, explains."""
    pairs = [{"parameters": list(pair.parameters), "share": pair.share} for pair in result.pairs]
    budget = {} if result.budget is None else {"budget": result.budget}
    return {"trials": result.trials, **budget, "shares": result.shares, "deviations": result.deviations, "pairs": pairs}


def conclusion(result: "Result") -> Row:
    """The outcome of an experiment, for programs."""
    fields: Row = {"name": result.name, "run_id": result.run_id, "status": str(result.status), "reason": result.reason}
    fields |= {"trials": len(result.trials), "best": best(result.experiment, result.history)}
    several = len(result.experiment.objective) > 1
    return fields | ({"front": front_of(result.experiment, result.history)} if several else {})


def replayed(record: Record, outcomes: "Sequence[Replayed]") -> Row:
    """The outcome of a replay: equal suggestions by their ids, different and unclear ones with details."""
    return {
        "name": record.name,
        "run_id": record.run_id,
        "algorithm": record.experiment.algorithm.name,
        "equal": [outcome.trial for outcome in outcomes if outcome.equal],
        "different": [
            {
                "trial": outcome.trial,
                "field": difference.field,
                "recorded": difference.recorded,
                "derived": difference.derived,
            }
            for outcome in outcomes
            for difference in outcome.differences
        ],
        "unclear": [{"trial": outcome.trial, "reason": outcome.unclear} for outcome in outcomes if outcome.unclear],
    }


def shortened(differences: Sequence[Row]) -> list[Row]:
    """The differences between recorded and derived values for a table: as JSON, cut after 80 characters."""
    sides = ("recorded", "derived")
    return [row | {side: _cut(json.dumps(row[side], ensure_ascii=False)) for side in sides} for row in differences]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def summary_of(outcomes: "Sequence[Replayed]") -> str:
    """A sentence with the number of suggestions that are equal, different and unclear."""
    equal = sum(outcome.equal for outcome in outcomes)
    different = sum(bool(outcome.differences) for outcome in outcomes)
    unclear = sum(bool(outcome.unclear) for outcome in outcomes)
    total = counted(len(outcomes), "suggestion")
    reproduced = f"reproduced {equal} of {total}"
    return f"{reproduced}; {different} {'differs' if different == 1 else 'differ'}, {unclear} could not be compared"
