"""An experiment on a cluster as one sees it from outside: submit it, watch it, go on with it, wait for its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from katib_flow.argo.cluster import WORKFLOW, AlreadyExists, Cluster, Manifest, Missing
from katib_flow.argo.compiler import compile_experiment, deadline_seconds
from katib_flow.argo.names import LABEL, segment_name
from katib_flow.errors import KatibFlowError
from katib_flow.history import History
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Record, Status, Store

POLL_SECONDS = 5.0
Sleep = Callable[[float], None]


def submit(cluster: Cluster, experiment: Experiment, name: str | None = None) -> str:
    """Create the Workflow of an experiment; its name, which is the name of the run too.

    Args:
        name: where it is given, a second try finds the first one's Workflow and leaves it.

    Raises:
        InvalidSpec: the experiment cannot run on a cluster.
        KatibFlowError: the cluster refuses it, or the name is another experiment's.
    """
    manifest = _manifest(cluster, experiment)
    if name is None:
        return cluster.create(manifest)["metadata"]["name"]
    del manifest["metadata"]["generateName"]
    manifest["metadata"]["name"] = name
    try:
        cluster.create(manifest)
    except AlreadyExists:
        there = cluster.get(WORKFLOW, name)["metadata"].get("labels") or {}
        if there.get(LABEL) != experiment.name:
            raise KatibFlowError(f"workflow {name}: found another's, need the name for {experiment.name}") from None
    return name


def go_on(
    cluster: Cluster, store: Store, record: Record, *, max_trials: int | None = None, timeout: float | None = None
) -> str:
    """Create the next segment of an experiment that was stopped, paused or interrupted, or that gets more trials.

    Args:
        max_trials, timeout: in all, in the place of ``limits.max_trials`` and ``limits.timeout`` (seconds).

    Raises:
        KatibFlowError: it runs, or did not run on a cluster.
    """
    if not record.key:
        raise KatibFlowError(f"{record.name}: did not run on a cluster; go on with: katib-flow resume {record.name}")
    segment = store.segment(record)
    if running := segment_in(cluster, record.key, segment):
        phase = (running.get("status") or {}).get("phase", "Pending")
        if phase in ("Pending", "Running", ""):
            raise KatibFlowError(f"{record.name}: is running, as workflow {running['metadata']['name']}")
    manifest = _manifest(cluster, record.experiment)
    control = store.go_on(record, max_trials=max_trials, timeout=timeout)
    if (limit := control.longest_seconds(record.experiment)) is not None:
        manifest["spec"]["activeDeadlineSeconds"] = deadline_seconds(max(0.0, limit - control.spent))
    del manifest["metadata"]["generateName"]
    name = manifest["metadata"]["name"] = segment_name(record.key, segment + 1)
    for parameter in manifest["spec"]["arguments"]["parameters"]:
        given = {"run": record.key, "segment": str(segment + 1)}
        parameter["value"] = given.get(parameter["name"], parameter["value"])
    cluster.create(manifest)
    return name


def segment_in(cluster: Cluster, run: str, segment: int) -> Manifest | None:
    """The Workflow of a segment; None where it is gone, or not there yet."""
    try:
        return cluster.get(WORKFLOW, segment_name(run, segment))
    except Missing:
        return None


def _manifest(cluster: Cluster, experiment: Experiment) -> Manifest:
    manifest: Manifest = compile_experiment(experiment).to_dict()
    manifest["metadata"]["namespace"] = cluster.namespace
    return manifest


@dataclass
class Following:
    """An experiment that runs on a cluster, looked at again and again until it has ended.

    Attributes:
        store: where it is recorded; None where that is not known here, and only the Workflows tell.
        segment: number of the Workflow that is looked at.
    """

    cluster: Cluster
    run: str
    store: Store | None = None
    segment: int = 0
    show: Callable[["Following"], None] = lambda _: None
    sleep: Sleep = time.sleep
    record: Record | None = None

    def wait(self) -> Status:
        """Wait for the end; how it ended."""
        while True:
            status = self.look()
            self.show(self)
            if status is not None:
                return status
            self.sleep(POLL_SECONDS)

    def look(self) -> Status | None:
        """The status of an experiment that has ended; None while it goes on."""
        phase = self._phase()
        if self.store is not None:
            self.record = self.store.keyed(self.run) or self.record
        if phase in ("Succeeded", "Failed", "Error", "gone"):
            return self._outcome(phase)
        return None

    def _phase(self) -> str:
        """Of the newest segment: where one has ended that handed over, the next is looked at."""
        while True:
            workflow = segment_in(self.cluster, self.run, self.segment)
            phase = "gone" if workflow is None else (workflow.get("status") or {}).get("phase") or "Pending"
            if phase not in ("Succeeded", "Failed", "Error", "gone"):
                return phase
            if segment_in(self.cluster, self.run, self.segment + 1) is None:
                return phase
            self.segment += 1

    def _outcome(self, phase: str) -> Status:
        if self.record is not None and self.record.status is not Status.RUNNING:
            return self.record.status
        if phase == "gone" and self.record is not None:
            return Status.INTERRUPTED
        return Status.SUCCEEDED if phase == "Succeeded" else Status.FAILED

    def progress(self) -> tuple[History, int | None] | None:
        """History and most trials for a display; None where MLflow does not know the experiment yet."""
        if self.store is None or self.record is None:
            return None
        most_trials = self.store.control(self.record).most_trials(self.record.experiment)
        return self.store.history(self.record), most_trials
