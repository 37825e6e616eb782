"""collect-metrics: close abandoned trials and decide whether to continue. finish: record how the experiment ended."""

import json
from collections.abc import Sequence

from katib_flow.argo.steps.context import Context, cut_short, judge
from katib_flow.argo.steps.fate import Connect
from katib_flow.argo.steps.manifests import kind_of_trial
from katib_flow.argo.steps.objects import clean_up
from katib_flow.argo.steps.suggest import close, end
from katib_flow.history import History, Trial
from katib_flow.loop import End, Verdict, exhausted
from katib_flow.reports.stored import keep_report
from katib_flow.tracking import Control, Status
from katib_flow.trial.outcome import CUT_SHORT

STOPPED_BY_ARGO = "shutdown with strategy"


def collect_metrics(context: Context, connect: Connect | None = None, iteration: int | None = None) -> bool:
    """Close abandoned trials, and return whether the experiment continues. Call it when no pod of a trial runs.

    If a later iteration has started trials, an earlier call has already done this, and the result is True.

    Args:
        context: the experiment.
        connect: opens the cluster, to find out why trials recorded no end and to delete their objects.
        iteration: the iteration that has ended; None in lanes mode.

    Raises:
        ClusterError: the cluster did not answer for as long as the step tried.
    """
    if not context.is_newest():
        return False
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    if iteration is not None and any(
        trial.position and trial.position.turn > (context.segment, iteration) for trial in history
    ):
        return True
    abandoned = history.open()
    history = close(context, history, abandoned, control, connect)
    _delete_objects(context, connect, abandoned)
    verdict = judge_at_rest(context, history, control)
    if verdict.go and not control.pause:
        store.summarise(record, history)
        return True
    status, reason = outcome(verdict) if not verdict.go else (Status.PAUSED, "paused; resume it to continue")
    _closed(context, history, status, reason)
    return False


def _closed(context: Context, history: History, status: Status, reason: str) -> None:
    """Set the experiment's status; if it is final now, also store the report.

    If the report exhausts the pod's memory, the next attempt skips it.
    """
    record = context.store.summarise(context.record, history, status, reason)
    if status.final and not context.record.status.final:
        keep_report(context.store, record, history)


def judge_at_rest(context: Context, history: History, control: Control) -> Verdict:
    """Return the verdict while no trial runs: an algorithm that suggests nothing now never will."""
    verdict = judge(context, history, control)
    if verdict.go and not cut_short(history) and not context.proposed(history, verdict.may_start):
        return exhausted(context.experiment, history)
    return verdict


def outcome(verdict: Verdict) -> tuple[Status, str]:
    """Return the status and the reason of an experiment that a verdict ends."""
    if verdict.failed:
        return Status.FAILED, verdict.reason
    return (Status.STOPPED if verdict.end is End.STOPPED else Status.SUCCEEDED), verdict.reason


def finish(context: Context, status: str, failures: str, connect: Connect | None = None) -> Status | None:
    """Close every open run and set the final status; return None if the next segment has taken over.

    Args:
        context: the experiment.
        status, failures: the Workflow's ``workflow.status`` and ``workflow.failures``, which Argo gives exit handlers.
        connect: opens the cluster, to delete the objects of trials.
    """
    if not context.is_newest():
        _close_lanes(context, connect)
        return None
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    if STOPPED_BY_ARGO in failures and context.experiment.argo.mode == "lanes":
        store.set_control(record, stop=True)  # lanes of the previous segment may still be running
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
    """Close the trials that stopped lanes of this segment left open; those of the next segment's lanes go on."""
    if context.experiment.argo.mode == "lanes":
        abandoned = [
            trial
            for trial in context.store.history(context.record).open()
            if trial.position and trial.position.segment == context.segment
        ]
        end(context, abandoned, CUT_SHORT)
        _delete_objects(context, connect, abandoned)


def _delete_objects(context: Context, connect: Connect | None, trials: Sequence[Trial]) -> None:
    """Delete the objects of trials that are Kubernetes objects and are no longer watched."""
    if trials and connect is not None and kind_of_trial(context.experiment) is not None:
        clean_up(context, connect(), trials)


def _how_it_ended(verdict: Verdict, control: Control, status: str, failures: str) -> tuple[Status, str]:
    if not verdict.go:
        return outcome(verdict)
    if control.pause:
        return Status.PAUSED, "paused; resume it to continue"
    if STOPPED_BY_ARGO in failures:
        return Status.STOPPED, "stopped in Argo; resume it to continue"
    if status == "Succeeded":
        return Status.INTERRUPTED, "the workflow ended before the experiment did"
    return Status.FAILED, f"the workflow {status.lower()}: {_first_failure(failures)}"


def _first_failure(failures: str) -> str:
    """Describe the node that failed first, preferring nodes that are not trials."""
    try:
        data = json.loads(failures)
        nodes = json.loads(data) if isinstance(data, str) else data  # Argo quotes the JSON once more
        nodes = sorted(nodes or [], key=lambda node: (node.get("templateName") == "trial", str(node.get("finishedAt"))))
        return f"{nodes[0]['displayName']}: {nodes[0]['message']}" if nodes else "no step gives a reason"
    except (ValueError, TypeError, KeyError, AttributeError):
        return failures[:500] or "no step gives a reason"
