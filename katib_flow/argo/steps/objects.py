"""train for any Kubernetes object: create it, follow it and its pods' logs to their end, delete it.

The object has one name for every try, so a pod that takes over finds what the last one created and goes on with it.
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
from katib_flow.argo.steps.train import begin, exit_code, find_trial, taken
from katib_flow.argo.steps.watch import Watch
from katib_flow.history import Metric, Trial
from katib_flow.metrics.sources import NOTHING
from katib_flow.tracking import Change, Recorder
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.outcome import Ending, conclude
from katib_flow.trial.protocol import TrialDirectory, substitutions
from katib_flow.trial.reader import Reader

POLL_SECONDS = 2.0  # between looks at the logs; at the object where the cluster does not tell of changes
NET_SECONDS = 30.0  # between looks at the object where it does
AWAY_SECONDS = 600.0  # for which the cluster may not answer

Sleep = Callable[[float], None]


class _Refused(Exception):
    """The object cannot be created; for a person."""


@dataclass(frozen=True)
class Ended:
    """How an object ended.

    Attributes:
        message: of its failure; "" where it succeeded.
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
    """Run a resource or template trial to its recorded end; the exit codes are those of ``train.run``.

    Args:
        sleep: what it waits by, in the place of news from the cluster.
    """
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return exit_code(trial.state)
    trial = begin(context, trial)
    place, watch = TrialDirectory(directory), watching(context, trial)
    place.create(context.experiment, trial.suggestion)
    values = substitutions(context.experiment, trial.suggestion, place, run_id=trial.run_id, uri=context.store.uri)
    values |= {"trial.namespace": cluster.namespace}
    thing = watched(context.experiment, context.record.key, trial_id, values, owner)
    with BoundedLog(place.log) as log, Recorder(context.store, context.record) as recorder:
        heard = taken(trial, watch, recorder)
        reader = Reader(context.experiment, place, log, heard, source(context, trial) or NOTHING)
        with contextlib.nullcontext(Asleep(sleep)) if sleep else News(cluster, thing.kind, thing.name) as news:
            timeout = context.experiment.limits.trial_timeout
            ending = _Follower(cluster, thing, reader, watch, timeout, news, clock).follow()
    watch.end()
    if ending is None:
        return TERMINATED  # the object runs on: another pod takes it over, or finish deletes it
    outcome = conclude(context.experiment, place, ending, reader, trial.started or time.time())
    context.store.write(context.record, [Change(outcome.applied_to(trial), (), place.log)])
    if outcome.message:
        print(f"{trial.id}: {outcome.state}: {outcome.message}", file=sys.stderr)
    if not thing.retain or ending.request or ending.timed_out:
        _delete(context, cluster, thing.kind, trial_id)
    return exit_code(outcome.state)


@dataclass
class _Follower:
    cluster: Cluster
    thing: Watched
    reader: Reader
    watch: Watch
    timeout: float | None
    news: Waiting
    clock: Callable[[], float]

    def follow(self) -> Ending | None:
        """Create the object and wait until it has ended; None where this pod is told to go before."""
        self.away_since: float | None = None
        logs = [PodLogs(self.cluster, self.thing, self.thing.container, self._printed, self.clock)]
        if self.reader.experiment.metrics.source in READ_BY_SIDECAR:
            logs.append(PodLogs(self.cluster, self.thing, sidecar.NAME, self._reported, self.clock))
        begun, created, due = self.clock(), False, -math.inf
        while True:
            found: Ended | None = None
            try:
                created = created or self._create()
                if created and self.clock() >= due:
                    found, due = self._ended(), self.clock() + NET_SECONDS
                for log in logs if created else ():
                    log.read()
                self.away_since = None
            except _Refused as refusal:
                return self._failed(str(refusal))
            except ClusterError as error:
                self._wait_for_the_cluster(error)
                found, due = None, -math.inf
            self.reader.read_on(end=found is not None)
            if found is not None:
                return self._failed(found.message) if found.message else Ending(0)
            if self.watch.terminated:
                return None
            if request := self.watch():
                return Ending(None, request)
            if self.timeout is not None and self.clock() - begun > self.timeout:
                return Ending(None, None, timed_out=True)
            if self.news.wait(POLL_SECONDS) or not self.news.told:
                due = -math.inf

    def _create(self) -> bool:
        """Create the object, or find the one of an earlier try; False where an old one is still being deleted.

        Raises:
            _Refused: the cluster will not have it, whenever it is asked.
            ClusterError: it does not answer.
        """
        thing = self.thing
        try:
            self.cluster.create(thing.manifest)
        except AlreadyExists:
            return self._adopt()
        except ClusterError as error:
            if error.transient:
                raise
            raise _Refused(str(error)) from None
        print(f"{thing.kind[1]} {thing.name}: created", file=sys.stderr)
        return True

    def _adopt(self) -> bool:
        thing = self.thing
        try:
            there = self.cluster.get(thing.kind, thing.name)
        except Missing:
            return False
        if not _is_ours(there, thing.manifest["metadata"]["labels"]):
            raise _Refused(f"{thing.kind[1]} {thing.name}: found one that is not this trial's, need its name free")
        return "deletionTimestamp" not in there["metadata"]

    def _ended(self) -> Ended | None:
        thing = self.thing
        try:
            there = self.cluster.get(thing.kind, thing.name)
        except Missing:
            return Ended(f"{thing.kind[1]} {thing.name} was deleted while it ran")
        if (why := met(there, thing.failure)) is not None:
            return Ended(f"{thing.kind[1]} {thing.name} failed{_told(why)}")
        if met(there, thing.success) is not None:
            self.reader.take(_outputs(there, self.reader.experiment.metric_names))
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
        print(f"{error}; asking again", file=sys.stderr)

    def _failed(self, message: str) -> Ending:
        (self.reader.directory.path / "error.json").write_text(json.dumps(message))
        return Ending(1)


def _told(found: Any) -> str:
    """Reason and message of the condition that was met."""
    if not isinstance(found, dict):
        return ""
    words = [str(found[key]) for key in ("reason", "message") if found.get(key)]
    return ": " + ": ".join(words) if words else ""


def _outputs(there: Manifest, names: Sequence[str]) -> list[Metric]:
    """Metrics among the output parameters of a Workflow: global ones, and those of its entrypoint."""
    status = there.get("status") or {}
    root = (status.get("nodes") or {}).get(there["metadata"]["name"]) or {}
    found: list[Metric] = []
    for outputs in (status.get("outputs"), root.get("outputs")):
        for parameter in (outputs or {}).get("parameters") or []:
            if parameter.get("name") in names and parameter["name"] not in [metric.name for metric in found]:
                try:
                    found.append(Metric(parameter["name"], float(parameter["value"]), 0, int(time.time() * 1000)))
                except (KeyError, TypeError, ValueError):
                    continue
    return found


def _delete(context: Context, cluster: Cluster, kind: Kind, trial_id: str) -> None:
    """Delete a trial's object, and nobody else's. What cannot be deleted now goes with its Workflow."""
    name = object_name(context.record.key, trial_id)
    try:
        if _is_ours(cluster.get(kind, name), labels_of(context.experiment, context.record.key, trial_id)):
            cluster.delete(kind, name)
    except Missing:
        return
    except ClusterError as error:
        print(error, file=sys.stderr)


def _is_ours(there: Manifest, wanted: Mapping[str, str]) -> bool:
    labels = there["metadata"].get("labels") or {}
    return all(labels.get(key) == wanted[key] for key in (RUN_LABEL, TRIAL_LABEL))


def owner(workflow: str, uid: str) -> Manifest:
    """Reference to the Workflow, with which a trial's object goes."""
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "name": workflow, "uid": uid}


def clean_up(context: Context, cluster: Cluster | None, trials: Sequence[Trial]) -> None:
    """Delete the objects of trials that nobody watches any more.

    Args:
        cluster: None where trials are no objects.
    """
    kind = kind_of_trial(context.experiment)
    if cluster is not None and kind is not None:
        for trial in trials:
            _delete(context, cluster, kind, trial.id)
