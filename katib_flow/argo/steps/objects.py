"""train for a trial that is a Kubernetes object: create it, follow it and its pods' logs to the end, delete it.

The object has the same name in all attempts, so a pod that takes over continues with the object of the previous one.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katib_flow.argo.cluster import (
    WORKFLOW,
    AlreadyExists,
    Cluster,
    ClusterError,
    Kind,
    Manifest,
    Missing,
)
from katib_flow.argo.gjson import met
from katib_flow.argo.names import RUN_LABEL, TERMINATED, TRIAL_LABEL
from katib_flow.argo.steps import sidecar
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.manifests import Watched, kind_of_trial, labels_of, object_name, watched
from katib_flow.argo.steps.news import Asleep, News, Waiting
from katib_flow.argo.steps.pod_logs import PodLogs
from katib_flow.argo.steps.pushed import source
from katib_flow.argo.steps.sidecar import READ_BY_SIDECAR
from katib_flow.argo.steps.train import begin, exit_code, find_trial, metrics_handler
from katib_flow.argo.steps.watch import Watch
from katib_flow.history import Metric, Trial
from katib_flow.metrics.sources import NOTHING
from katib_flow.tracking import Change, Recorder
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.outcome import Ending, conclude
from katib_flow.trial.protocol import TrialDirectory, substitutions
from katib_flow.trial.reader import Reader

POLL_SECONDS = 2.0  # between reads of the logs, and of the object if the cluster does not report changes
NET_SECONDS = 30.0  # between reads of the object if the cluster reports changes
AWAY_SECONDS = 600.0  # the longest outage of the cluster that the step survives

Sleep = Callable[[float], None]


class _Refused(Exception):
    """The object cannot be created; the message says why."""


@dataclass(frozen=True)
class Ended:
    """The end of an object.

    Attributes:
        message: describes its failure; "" if it succeeded.
    """

    message: str = ""


def run(
    context: Context,
    cluster: Cluster,
    trial_id: str,
    directory: Path,
    owner: Manifest,
    *,
    watching: Callable[[Context, Trial], Watch] = Watch,
    sleep: Sleep | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run a resource or template trial and record its end.

    Args:
        context: the experiment.
        cluster: the experiment's namespace.
        trial_id: id of the trial.
        directory: directory for the trial's files.
        owner: reference to the Workflow; Kubernetes deletes the object with it.
        watching: makes the watch that may end the trial.
        sleep: polls with these pauses instead of watching the object.
        clock: returns a monotonic time in seconds.

    Returns:
        The exit code, as of ``train.run``.
    """
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return exit_code(trial.state)
    trial = begin(context, trial)
    files, watch = TrialDirectory(directory), watching(context, trial)
    files.create(context.experiment, trial.suggestion)
    values = substitutions(context.experiment, trial.suggestion, files, run_id=trial.run_id, uri=context.store.uri)
    values |= {"trial.namespace": cluster.namespace}
    target = watched(context.experiment, context.record.key, trial_id, values, owner)
    with BoundedLog(files.log) as log, Recorder(context.store, context.record) as recorder:
        on_metrics = metrics_handler(trial, watch, recorder)
        reader = Reader(context.experiment, files, log, on_metrics, source(context, trial) or NOTHING)
        with contextlib.nullcontext(Asleep(sleep)) if sleep else News(cluster, target.kind, target.name) as news:
            timeout = context.experiment.limits.trial_timeout
            ending = _Follower(cluster, target, reader, watch, timeout, news, clock).follow()
    watch.end()
    if ending is None:
        return TERMINATED  # the object continues: another pod takes over, or finish deletes it
    outcome = conclude(context.experiment, files, ending, reader, trial.started or time.time())
    context.store.write(context.record, [Change(outcome.applied_to(trial), (), files.log)])
    if outcome.message:
        print(f"{trial.id}: {outcome.state}: {outcome.message}", file=sys.stderr)
    if not target.retain or ending.request or ending.timed_out:
        _delete(context, cluster, target.kind, trial_id)
    return exit_code(outcome.state)


@dataclass
class _Follower:
    """Follows the object of one trial."""

    cluster: Cluster
    target: Watched
    reader: Reader
    watch: Watch
    timeout: float | None
    news: Waiting
    clock: Callable[[], float]

    def follow(self) -> Ending | None:
        """Create the object and wait for its end; return None if this pod is terminated before."""
        self.away_since: float | None = None
        logs = [PodLogs(self.cluster, self.target, self.target.container, self._printed, self.clock)]
        if self.reader.experiment.metrics.source in READ_BY_SIDECAR:
            logs.append(PodLogs(self.cluster, self.target, sidecar.NAME, self._reported, self.clock))
        started, created, due = self.clock(), False, -math.inf
        while True:
            ended: Ended | None = None
            try:
                created = created or self._create()
                if created and self.clock() >= due:
                    ended, due = self._ended(), self.clock() + NET_SECONDS
                for log in logs if created else ():
                    log.read()
                self.away_since = None
            except _Refused as refusal:
                return self._failed(str(refusal))
            except ClusterError as error:
                self._wait_for_the_cluster(error)
                ended, due = None, -math.inf
            self.reader.read_on(end=ended is not None)
            if ended is not None:
                return self._failed(ended.message) if ended.message else Ending(0)
            if self.watch.terminated:
                return None
            if request := self.watch():
                return Ending(None, request)
            if self.timeout is not None and self.clock() - started > self.timeout:
                return Ending(None, None, timed_out=True)
            if self.news.wait(POLL_SECONDS) or not self.news.notifies:
                due = -math.inf

    def _create(self) -> bool:
        """Create the object or adopt that of an earlier attempt; return False if an old one is still being deleted.

        Raises:
            _Refused: the cluster refuses the object for good.
            ClusterError: the cluster does not answer.
        """
        target = self.target
        try:
            self.cluster.create(target.manifest)
        except AlreadyExists:
            return self._adopt()
        except ClusterError as error:
            if error.transient:
                raise
            raise _Refused(str(error)) from None
        print(f"{target.kind[1]} {target.name}: created", file=sys.stderr)
        return True

    def _adopt(self) -> bool:
        target = self.target
        try:
            existing = self.cluster.get(target.kind, target.name)
        except Missing:
            return False
        if not _is_ours(existing, target.manifest["metadata"]["labels"]):
            raise _Refused(f"{target.kind[1]} {target.name}: found one of another owner, need this name for the trial")
        return "deletionTimestamp" not in existing["metadata"]

    def _ended(self) -> Ended | None:
        target = self.target
        try:
            existing = self.cluster.get(target.kind, target.name)
        except Missing:
            return Ended(f"{target.kind[1]} {target.name} was deleted while it ran")
        if (condition := met(existing, target.failure)) is not None:
            return Ended(f"{target.kind[1]} {target.name} failed{_described(condition)}")
        if met(existing, target.success) is not None:
            self.reader.take(_outputs(existing, self.reader.experiment.metric_names))
            return Ended()
        return None

    def _printed(self, line: str, at_ms: int) -> None:
        self.reader.clock = lambda: at_ms
        self.reader.printed(f"{line}\n".encode())
        print(line)

    def _reported(self, line: str, at_ms: int) -> None:
        self.reader.clock = lambda: at_ms
        self.reader.reported(line)

    def _wait_for_the_cluster(self, error: ClusterError) -> None:
        now = self.clock()
        self.away_since = now if self.away_since is None else self.away_since
        if not error.transient or now - self.away_since > AWAY_SECONDS:
            raise error
        print(f"{error}; retrying", file=sys.stderr)

    def _failed(self, message: str) -> Ending:
        (self.reader.directory.path / "error.json").write_text(json.dumps(message))
        return Ending(1)


def _described(condition: Any) -> str:
    """Return reason and message of a condition that was met, as the rest of a sentence."""
    if not isinstance(condition, dict):
        return ""
    words = [str(condition[key]) for key in ("reason", "message") if condition.get(key)]
    return ": " + ": ".join(words) if words else ""


def _outputs(workflow: Manifest, names: Sequence[str]) -> list[Metric]:
    """Return the metrics among the output parameters of a Workflow: global ones, and those of its entrypoint."""
    status = workflow.get("status") or {}
    root = (status.get("nodes") or {}).get(workflow["metadata"]["name"]) or {}
    metrics: list[Metric] = []
    for outputs in (status.get("outputs"), root.get("outputs")):
        for parameter in (outputs or {}).get("parameters") or []:
            if parameter.get("name") in names and parameter["name"] not in [metric.name for metric in metrics]:
                try:
                    metrics.append(Metric(parameter["name"], float(parameter["value"]), 0, int(time.time() * 1000)))
                except (KeyError, TypeError, ValueError):
                    continue
    return metrics


def _delete(context: Context, cluster: Cluster, kind: Kind, trial_id: str) -> None:
    """Delete a trial's object if it is the trial's. If that fails, Kubernetes deletes it with its Workflow."""
    name = object_name(context.record.key, trial_id)
    try:
        if _is_ours(cluster.get(kind, name), labels_of(context.experiment, context.record.key, trial_id)):
            cluster.delete(kind, name)
    except Missing:
        return
    except ClusterError as error:
        print(error, file=sys.stderr)


def _is_ours(existing: Manifest, wanted: Mapping[str, str]) -> bool:
    labels = existing["metadata"].get("labels") or {}
    return all(labels.get(key) == wanted[key] for key in (RUN_LABEL, TRIAL_LABEL))


def owner(workflow: str, uid: str) -> Manifest:
    """Return the owner reference of a trial's object to its Workflow."""
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "name": workflow, "uid": uid}


def clean_up(context: Context, cluster: Cluster | None, trials: Sequence[Trial]) -> None:
    """Delete the objects of trials that are no longer watched.

    Args:
        context: the experiment.
        cluster: its namespace; None if trials are not objects.
        trials: the trials.
    """
    kind = kind_of_trial(context.experiment)
    if cluster is not None and kind is not None:
        for trial in trials:
            _delete(context, cluster, kind, trial.id)
