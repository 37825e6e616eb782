"""Experiments and trials as rows for the command line."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from katib_flow.history import History
from katib_flow.local import Result
from katib_flow.spec import Experiment
from katib_flow.tracking import Control, Record, Status
from katib_flow.trial.table import rows

if TYPE_CHECKING:
    from katib_flow.replay import Replayed
    from katib_flow.reports.importance import Importance

Row = dict[str, Any]
MOST_CHARACTERS = 80  # of a value in a table of differences


def as_seen_here(record: Record) -> Record:
    """An experiment as it stands; MLflow has one as running whose process was killed, until somebody resumes it."""
    if record.status is Status.RUNNING and record.lease is not None and record.lease.abandoned(time.time()):
        return replace(record, status=Status.INTERRUPTED, reason="its process is gone; resume it to continue")
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


def replayed(record: Record, outcomes: "Sequence[Replayed]") -> Row:
    """What became of the suggestions of an experiment that were derived again, the equal ones by their id alone."""
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


def in_short(differences: Sequence[Row]) -> list[Row]:
    """The differences between what was recorded and derived, to be read in a table: numbers whole, long values cut."""
    sides = ("recorded", "derived")
    return [row | {side: _cut(json.dumps(row[side], ensure_ascii=False)) for side in sides} for row in differences]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def summed_up(outcomes: "Sequence[Replayed]") -> str:
    """How many suggestions were derived again as they are recorded, how many differ, and of how many none can tell."""
    equal = sum(outcome.equal for outcome in outcomes)
    different = sum(bool(outcome.differences) for outcome in outcomes)
    unclear = sum(bool(outcome.unclear) for outcome in outcomes)
    how = f"{equal} of {len(outcomes)} suggestions were derived again as they are recorded"
    return f"{how}; {different} differ{'s' * (different == 1)}, and {unclear} cannot be told"
