"""How an experiment on this machine stands when nothing runs any more, and what is then recorded of it."""

from collections.abc import Callable
from dataclasses import replace

from katib_flow.history import History
from katib_flow.loop import End, Verdict
from katib_flow.reports.stored import keep_report
from katib_flow.tracking import Record, Status, Store
from katib_flow.tracking.registry import keep_model


def standing(verdict: Verdict, *, interrupted: bool, paused: bool, how: str = "resume goes on") -> tuple[Status, str]:
    """The status to record, with its reason.

    Args:
        interrupted, paused: whether it was, by the user; neither matters to one that has ended.
        how: to go on with one that has not.
    """
    if interrupted and verdict.go:
        return Status.INTERRUPTED, f"interrupted; {how}"
    if paused and verdict.go:
        return Status.PAUSED, f"paused; {how}"
    if verdict.failed:
        return Status.FAILED, verdict.reason
    return (Status.STOPPED if verdict.end is End.STOPPED else Status.SUCCEEDED), verdict.reason


def conclude(
    store: Store, record: Record, history: History, run_id: Callable[[str], str], status: Status, reason: str
) -> History:
    """Record how an experiment stands, with its report where it has ended; its trials, with their runs.

    Args:
        run_id: of a trial, by its id.
    """
    known = ((trial, trial.run_id or run_id(trial.id)) for trial in history)
    history = History(tuple(replace(trial, run_id=each) for trial, each in known))
    record = store.summarise(record, history, status, reason)
    if status.final and status is not Status.INTERRUPTED:
        keep_report(store, record, history)
        keep_model(store, record, history)
    return history
