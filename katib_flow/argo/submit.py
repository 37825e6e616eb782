"""An experiment on a cluster as one sees it from outside: submit it, watch it, go on with it, wait for its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from katib_flow.argo import compile_experiment
from katib_flow.argo.cluster import WORKFLOW, AlreadyExists, Cluster, ClusterError, Manifest, Missing, patiently
from katib_flow.argo.names import LABEL, segment_name
from katib_flow.argo.nodes import COMPLETED, first_failure, nodes_of, phase_of
from katib_flow.argo.waits import Wait, told, waits
from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import History
from katib_flow.local.spool import Spool
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Record, Status, Store

POLL_SECONDS = 5.0
AWAY_SECONDS = 600.0  # for which the cluster or MLflow may not answer who only watches
LOOKS = 2  # in which something waits before it is told: pods that start wait for a moment
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
    if not record.key or Spool.names(record.key):
        raise KatibFlowError(f"{record.name}: did not run on a cluster; go on with: katib-flow resume {record.name}")
    segment = store.segment(record)
    if (running := segment_in(cluster, record.key, segment)) and phase_of(running) not in COMPLETED:
        raise KatibFlowError(f"{record.name}: is running, as workflow {running['metadata']['name']}")
    manifest = _manifest(cluster, record.experiment)
    control = store.go_on(record, max_trials=max_trials, timeout=timeout)
    if (limit := control.longest_seconds(record.experiment)) is not None:
        from katib_flow.argo.compiler import deadline_seconds  # with Hera, which who only looks must not wait for

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
        show: called with this after each look.
        say: called with what there is to tell beside that: what waits and why, that the cluster is away and back.
        reason: why it ended, or is as it is; "" where nobody has said.
    """

    cluster: Cluster
    run: str
    store: Store | None = None
    segment: int = 0
    show: Callable[["Following"], None] = lambda _: None
    say: Callable[[str], None] = lambda text: print(text, flush=True)
    sleep: Sleep = time.sleep
    record: Record | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        self._away = False
        self._seen: dict[tuple[str, str], int] = {}  # what waits -> in how many looks on end
        self._told: set[str] = set()

    def wait(self) -> Status:
        """Wait for the end; how it ended. An outage of the cluster or of MLflow is waited for, ten minutes at most.

        Raises:
            ClusterError, TrackingError: they have not answered for longer.
        """
        while True:
            status = patiently(self._look_and_show, AWAY_SECONDS, passing=_passes, told=self._gone, sleep=self.sleep)
            if status is not None:
                return status
            self.sleep(POLL_SECONDS)

    def _look_and_show(self) -> Status | None:
        status = self.look()
        self.show(self)
        if self._away:
            self._away = False
            self.say("they answer again")
        return status

    def _gone(self, error: BaseException) -> None:
        self._away = True
        self.say(f"{error}; asking again for up to {AWAY_SECONDS / 60:.0f} minutes, {self.run} goes on meanwhile")

    def look(self) -> Status | None:
        """The status of an experiment that has ended; None while it goes on."""
        workflow = self.newest()
        phase = "gone" if workflow is None else phase_of(workflow)
        if self.store is not None:
            self.record = self.store.keyed(self.run) or self.record
        if workflow is None or phase in COMPLETED:
            return self._outcome(phase, workflow)
        self._tell(waits(self.cluster, workflow))
        return None

    def newest(self) -> Manifest | None:
        """The Workflow that is looked at: where one has ended that handed over, the next; None where it is gone."""
        while True:
            workflow = segment_in(self.cluster, self.run, self.segment)
            if workflow is not None and phase_of(workflow) not in COMPLETED:
                return workflow
            if segment_in(self.cluster, self.run, self.segment + 1) is None:
                return workflow
            self.segment += 1

    def _tell(self, found: list[Wait]) -> None:
        """Say what has waited for a moment and was not said yet, and when nothing waits any more."""
        keys = {(wait.step, wait.about): wait for wait in found}
        self._seen = {key: self._seen.get(key, 0) + 1 for key in keys}
        for line in told(wait for key, wait in keys.items() if self._seen[key] == LOOKS):
            self.say(line)
        lasting = {f"{step} {about}" for (step, about), looks in self._seen.items() if looks >= LOOKS}
        if self._told and not lasting:
            self.say("nothing waits any more")
        self._told = lasting

    def _outcome(self, phase: str, workflow: Manifest | None) -> Status:
        if self.record is not None and self.record.status is not Status.RUNNING:
            self.reason = self.record.reason
            return self.record.status
        self.reason = "its Workflow is gone" if workflow is None else how_it_failed(workflow)
        if phase == "gone" and self.record is not None:
            return Status.INTERRUPTED
        return Status.SUCCEEDED if phase == "Succeeded" else Status.FAILED

    def progress(self) -> tuple[History, int | None] | None:
        """History and most trials for a display; None where MLflow does not know the experiment yet."""
        if self.store is None or self.record is None:
            return None
        most_trials = self.store.control(self.record).most_trials(self.record.experiment)
        return self.store.history(self.record), most_trials


def _passes(error: BaseException) -> bool:
    return isinstance(error, TrackingError) or (isinstance(error, ClusterError) and error.passing)


def how_it_failed(workflow: Manifest) -> str:
    """The first failure of a Workflow that has ended badly, for a person; "" of another."""
    if phase_of(workflow) not in ("Failed", "Error"):
        return ""
    failed = first_failure(nodes_of(workflow) or [])
    message = (workflow.get("status") or {}).get("message") or "Argo does not say why"
    return f"the workflow failed: {f'{failed.step}: {failed.message}' if failed else message}"


def standing(cluster: Cluster, run: str) -> tuple[str, list[str]]:
    """How the Workflow of an experiment stands that has not ended in MLflow, and what waits in it.

    Raises:
        ClusterError: the cluster does not answer.
    """
    following = Following(cluster, run)
    workflow = following.newest()
    name = segment_name(run, following.segment)
    if workflow is None:
        return f"{name} is gone", []
    phase, why = phase_of(workflow), how_it_failed(workflow)
    if phase in COMPLETED:
        return f"{name} {phase}{f': {why}' if why else ''}", []
    return f"{name} {phase}", told(waits(cluster, workflow))
