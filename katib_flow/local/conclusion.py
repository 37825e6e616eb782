"""The status of an experiment on this machine once nothing is running, and the final record of it."""

from collections.abc import Callable
from dataclasses import replace

from katib_flow.history import History
from katib_flow.loop import End, Verdict
from katib_flow.reports.stored import keep_report
from katib_flow.tracking import Record, Status, Store
from katib_flow.tracking.registry import keep_model

CONTINUE = "resume it to continue"


def standing(verdict: Verdict, *, interrupted: bool, paused: bool, how: str = CONTINUE) -> tuple[Status, str]:
    """The status to record, with its reason.

    Args:
        interrupted, paused: whether the user interrupted or paused the experiment; ignored if it has ended by itself.
        how: how to continue an experiment that has not ended.
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
    """Record the status of an experiment, and its report and model if it has ended.

    Args:
        run_id: maps the id of a trial to that of its MLflow run.

    Returns:
        The history, in which each trial has the id of its run.
    """
    history = History(tuple(replace(trial, run_id=trial.run_id or run_id(trial.id)) for trial in history))
    record = store.summarise(record, history, status, reason)
    if status.final and status is not Status.INTERRUPTED:
        keep_report(store, record, history)
        keep_model(store, record, history)
    return history
