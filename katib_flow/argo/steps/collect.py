"""collect-metrics: close what pods left open, judge, and say whether to go on. finish: say how it ended."""

import json
from collections.abc import Sequence

from katib_flow.argo.steps.context import Context, cut_short, judge
from katib_flow.argo.steps.fate import Connect
from katib_flow.argo.steps.manifests import kind_of_trial
from katib_flow.argo.steps.objects import clean_up
from katib_flow.argo.steps.suggest import CUT_SHORT, close, end
from katib_flow.history import History, Trial
from katib_flow.loop import End, Verdict, exhausted
from katib_flow.reports.stored import keep_report
from katib_flow.tracking import Control, Status

STOPPED_BY_ARGO = "shutdown with strategy"


def collect_metrics(context: Context, connect: Connect | None = None, iteration: int | None = None) -> bool:
    """Whether the experiment goes on. All trials that may still run have ended when it is called.

    Where a later iteration has started trials, a call before has said so, and closed what its own left open.

    Args:
        iteration: the one that has ended; None in lanes.
        connect: opens the cluster, to ask it what became of trials that recorded no end, and to delete their objects.

    Raises:
        ClusterError: it has not answered for a while.
    """
    if not context.is_newest():
        return False
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    if iteration is not None and any(
        trial.place and trial.place.turn > (context.segment, iteration) for trial in history
    ):
        return True
    abandoned = history.open()
    history = close(context, history, abandoned, control, connect)
    _delete_objects(context, connect, abandoned)
    verdict = judge_at_rest(context, history, control)
    if verdict.go and not control.pause:
        store.summarise(record, history)
        return True
    status, reason = outcome(verdict) if not verdict.go else (Status.PAUSED, "paused; resume goes on")
    _closed(context, history, status, reason)
    return False


def _closed(context: Context, history: History, status: Status, reason: str) -> None:
    """Set how the experiment stands; where it ends now, keep its report.

    A pod that a report takes too much memory for is tried again, and then does without.
    """
    record = context.store.summarise(context.record, history, status, reason)
    if status.final and not context.record.status.final:
        keep_report(context.store, record, history)


def judge_at_rest(context: Context, history: History, control: Control) -> Verdict:
    """The verdict while nothing runs: an algorithm that proposes nothing now never will."""
    verdict = judge(context, history, control)
    if verdict.go and not cut_short(history) and not context.proposed(history, verdict.may_start):
        return exhausted(context.experiment, history)
    return verdict


def outcome(verdict: Verdict) -> tuple[Status, str]:
    """The status of an experiment that a verdict ended."""
    if verdict.failed:
        return Status.FAILED, verdict.reason
    return (Status.STOPPED if verdict.end is End.STOPPED else Status.SUCCEEDED), verdict.reason


def finish(context: Context, status: str, failures: str, connect: Connect | None = None) -> Status | None:
    """Close every open run and set the final status; None where the next segment has taken over.

    Args:
        status, failures: the Workflow's, as Argo tells its exit handler.
        connect: opens the cluster, where trials may be objects that run on.
    """
    if not context.is_newest():
        _close_lanes(context, connect)
        return None
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    if STOPPED_BY_ARGO in failures and context.experiment.argo.mode == "lanes":
        store.set_control(record, stop=True)  # lanes of the segment before may be at work still
    abandoned = history.open()
    killed = end(context, abandoned, CUT_SHORT)
    _delete_objects(context, connect, abandoned)
    history = history.replaced(killed)
    if record.status is Status.RUNNING:
        final, reason = _how_it_ended(judge(context, history, control), control, status, failures)
        _closed(context, history, final, reason)
        context.release()
        return final
    if killed:
        store.summarise(record, history, record.status, record.reason)
    context.release()
    return record.status


def _close_lanes(context: Context, connect: Connect | None) -> None:
    """Lanes of this segment that were stopped leave trials open; the next one has lanes and trials of its own."""
    if context.experiment.argo.mode == "lanes":
        left = [
            trial
            for trial in context.store.history(context.record).open()
            if trial.place and trial.place.segment == context.segment
        ]
        end(context, left, CUT_SHORT)
        _delete_objects(context, connect, left)


def _delete_objects(context: Context, connect: Connect | None, trials: Sequence[Trial]) -> None:
    """Delete the objects of trials that are objects, and that nobody watches any more."""
    if trials and connect is not None and kind_of_trial(context.experiment) is not None:
        clean_up(context, connect(), trials)


def _how_it_ended(verdict: Verdict, control: Control, status: str, failures: str) -> tuple[Status, str]:
    if not verdict.go:
        return outcome(verdict)
    if control.pause:
        return Status.PAUSED, "paused; resume goes on"
    if STOPPED_BY_ARGO in failures:
        return Status.STOPPED, "stopped in Argo; resume goes on"
    if status == "Succeeded":
        return Status.INTERRUPTED, "the workflow ended before the experiment did"
    return Status.FAILED, f"the workflow {status.lower()}: {_first_failure(failures)}"


def _first_failure(failures: str) -> str:
    """The earliest of the failed nodes that was no trial, for a person."""
    try:
        found = json.loads(failures)
        nodes = json.loads(found) if isinstance(found, str) else found  # Argo quotes the JSON once more
        nodes = sorted(nodes or [], key=lambda node: (node.get("templateName") == "trial", str(node.get("finishedAt"))))
        return f"{nodes[0]['displayName']}: {nodes[0]['message']}" if nodes else "no step says why"
    except (ValueError, TypeError, KeyError, AttributeError):
        return failures[:500] or "no step says why"
