"""The simulated cluster: Argo's controller and machines that run pods, on a clock that jumps from event to event."""

import gzip
import heapq
import itertools
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from katib_flow.argo.cluster import WORKFLOW, Kind
from katib_flow.testing.argo import lint
from katib_flow.testing.argo.faults import Faults, no_faults
from katib_flow.testing.argo.locks import Locks
from katib_flow.testing.argo.machine import Machine
from katib_flow.testing.argo.operation import Operation
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.programs import Programs
from katib_flow.testing.argo.refusal import Rejected
from katib_flow.testing.argo.workflow import Manifest, Workflow, merged_spec
from katib_flow.testing.kubernetes import EPOCH, FakeCluster
from katib_flow.wording import counted

MAX_OBJECT_BYTES = 1 << 20
MEASURE_EVERY = 100  # new nodes and operations between two measurements of a growing Workflow
TEMPLATE = ("argoproj.io/v1alpha1", "WorkflowTemplate")
CLUSTER_TEMPLATE = ("argoproj.io/v1alpha1", "ClusterWorkflowTemplate")


@dataclass(frozen=True)
class Costs:
    """The time that Argo and Kubernetes take in addition to the programs, in seconds.

    Attributes:
        requeue: the shortest time between two operations on a Workflow (DEFAULT_REQUEUE_TIME).
        start: for scheduling, and Argo's init container.
        end: for reading the outputs, after main has ended.
    """

    requeue: float = 10.0
    start: float = 1.0
    end: float = 1.0


FREE = Costs(0.0, 0.0, 0.0)


@dataclass
class Simulator:
    """One namespace with Argo.

    Attributes:
        programs: the programs that run in pods.
        faults: the faults that strike pods.
        cluster: the Kubernetes API; a Workflow created there starts, and a patch there triggers an operation.
        workflows: all Workflows so far, by name; deleted ones are kept.
        now: the time, in seconds since the epoch.
        before_each: called before each operation of the controller, for tests that restart it.
        looks: number of operations so far.
    """

    programs: Programs
    faults: Faults = no_faults
    costs: Costs = field(default_factory=Costs)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    now: float = EPOCH
    workflows: dict[str, Workflow] = field(default_factory=dict[str, Workflow])
    before_each: list[Callable[["Simulator", str], None]] = field(
        default_factory=list[Callable[["Simulator", str], None]]
    )
    looks: int = 0

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._last: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._measured: dict[str, int] = {}
        self._looked: Counter[str] = Counter()
        self.locks = Locks(self.cluster)
        self.machine = Machine(self)
        self.cluster.clock = lambda: self.now
        self.cluster.statuses[WORKFLOW] = self._status
        self.cluster.on_create.append(self._created)
        self.cluster.on_change.append(self._changed)

    # for tests

    def submit(self, manifest: Manifest) -> str:
        """Create a Workflow, and return its name.

        Raises:
            Unsupported: the simulator does not implement something in it.
            Rejected: Argo would refuse it.
        """
        return self.cluster.create(manifest)["metadata"]["name"]

    def run(self, until: float | None = None, *, most: int = 10_000_000) -> None:
        """Let time pass until no events are left, or until a given time.

        Args:
            until: the time, in seconds since the epoch.
            most: the most events; more are a bug.

        Raises:
            AssertionError: there were ``most`` events.
        """
        for _ in range(most):
            if not self._events or (until is not None and self._events[0][0] > until):
                break
            self.step()
        else:
            raise AssertionError(f"the simulation did not end within {counted(most, 'event')}")
        if until is not None:
            self.now = max(self.now, until)

    def step(self) -> None:
        """Advance the clock to the next event, and let it happen."""
        at, _, action = heapq.heappop(self._events)
        self.now = max(self.now, at)
        action()

    def __getitem__(self, name: str) -> Workflow:
        return self.workflows[name]

    def stop(self, name: str, strategy: str = "Stop") -> None:
        """Do what ``argo stop`` does, or ``argo terminate`` with the strategy ``Terminate``."""
        self.cluster.patch(WORKFLOW, name, {"spec": {"shutdown": strategy}})

    def suspend(self, name: str, *, on: bool = True) -> None:
        """Do what ``argo suspend`` does, or ``argo resume`` with ``on`` False."""
        self.cluster.patch(WORKFLOW, name, {"spec": {"suspend": on or None}})

    def restart_controller(self) -> None:
        """Restart the controller, which then only knows the state that it had written."""
        for name, workflow in self.workflows.items():
            if not workflow.completed:
                self.workflows[name] = Workflow.load(workflow.save())
                self.look_again(self.workflows[name], self.now)
        self.locks.recover(self.workflows.values())

    def look(self, name: str, *, whole: bool = False) -> None:
        """Run an operation of the controller on a Workflow now; it may be called at any time.

        Args:
            whole: whether to visit every node, not only those where something has changed.
        """
        workflow, manifest = self.workflows[name], self.cluster.peek(WORKFLOW, name)
        if whole:
            workflow.forget()
        if manifest is None or workflow.completed:
            return
        self.looks += 1
        self._looked[name] += 1
        self._last[name] = self.now
        suspended, shutdown = bool(manifest["spec"].get("suspend")), manifest["spec"].get("shutdown", "")
        Operation(workflow, self, suspended=suspended, shutdown=shutdown).run()
        self._measure(workflow)
        if workflow.completed:
            self._completed(workflow)

    # the Kubernetes API

    def _created(self, manifest: Manifest) -> None:
        if (manifest["apiVersion"], manifest["kind"]) != WORKFLOW:
            return
        metadata = manifest["metadata"]
        try:
            spec = self._executed(manifest)
            lint.check(manifest, spec)
        except Exception:
            self.cluster.delete(WORKFLOW, metadata["name"])  # Argo would refuse it, or fail it at once
            raise
        labels = {**metadata.get("labels", {}), **spec.get("workflowMetadata", {}).get("labels", {})}
        workflow = Workflow(metadata["name"], metadata["namespace"], metadata["uid"], labels, spec, self.now)
        self.workflows[workflow.name] = workflow
        self.look_again(workflow, self.now)

    def _executed(self, manifest: Manifest) -> Manifest:
        reference = manifest["spec"].get("workflowTemplateRef")
        if reference is None:
            return manifest["spec"]
        below = self.fetch(reference["name"], bool(reference.get("clusterScope")))
        if below is None:
            raise Rejected(f"workflowtemplates.argoproj.io {reference['name']!r} not found")
        return merged_spec(manifest, {"spec": below})

    def _changed(self, kind: Kind, name: str) -> None:
        if kind == WORKFLOW and name in self.workflows:
            if self.cluster.peek(kind, name) is None:
                self.machine.remove_all(name)
            else:
                self.look_again(self.workflows[name], self.now)

    def _status(self, name: str) -> Manifest | None:
        workflow = self.workflows.get(name)
        return workflow.status() if workflow is not None and workflow.phase else None

    def _completed(self, workflow: Workflow) -> None:
        ttl = workflow.spec.get("ttlStrategy", {})
        outcome = "secondsAfterSuccess" if workflow.phase == "Succeeded" else "secondsAfterFailure"
        seconds = ttl.get(outcome, ttl.get("secondsAfterCompletion"))
        if seconds is not None:
            self.at(self.now + float(seconds), lambda: self.cluster.delete(WORKFLOW, workflow.name))

    def fetch(self, name: str, cluster_wide: bool) -> Manifest | None:
        """The spec of a WorkflowTemplate, if it exists."""
        manifest = self.cluster.peek(CLUSTER_TEMPLATE if cluster_wide else TEMPLATE, name)
        return manifest["spec"] if manifest else None

    # what an operation needs

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Schedule an action at a time, in seconds since the epoch."""
        heapq.heappush(self._events, (when, next(self._order), action))

    def look_again(self, workflow: Workflow, at: float) -> None:
        """Schedule an operation on a Workflow, at the earliest at a time and ``costs.requeue`` after its last one."""
        name = workflow.name
        at = max(at, self._last.get(name, self.now - self.costs.requeue) + self.costs.requeue, self.now)
        if self._due.get(name, float("inf")) <= at:
            return
        self._due[name] = at
        self.at(at, lambda: self._look_if_due(name, at))

    def _look_if_due(self, name: str, at: float) -> None:
        if self._due.get(name) != at:
            return
        del self._due[name]
        for callback in self.before_each:
            callback(self, name)
        self.look(name)

    def pod(self, workflow: Workflow, node: str) -> Pod | None:
        """The pod of a node, if it exists."""
        return self.machine.pod(workflow.name, node)

    def pods(self, workflow: Workflow) -> list[Pod]:
        """The pods of a Workflow that exist now."""
        return self.machine.pods(workflow.name)

    def start(self, workflow: Workflow, pod: Pod) -> None:
        """Start a pod.

        Raises:
            Rejected: Kubernetes would refuse it, or its containers could not start.
        """
        lint.check_labels(pod.labels)
        self.machine.start(pod)

    def terminate(self, pod: Pod) -> None:
        """Terminate a pod; nobody reads its result."""
        self.machine.terminate(pod)

    def forget(self, pod: Pod) -> None:
        """Drop a pod whose result has been read."""
        self.machine.forget(pod)

    def acquire(self, workflow: Workflow, node: str, synchronization: Manifest) -> str:
        """Take all locks of a template for a node, or none; return the name of a lock that is not free, or ""."""
        return self.locks.acquire((workflow.name, node), workflow.created, synchronization)

    def release(self, workflow: Workflow, node: str) -> None:
        """Release the locks of a node, or with "" those of all nodes of a Workflow."""
        if self.locks.release(workflow.name, node):
            for other in self.workflows.values():
                if not other.completed and any(waiter.waiting for waiter in other.nodes):
                    self.look_again(other, self.now)

    # limits

    def _measure(self, workflow: Workflow) -> None:
        """Update the largest size of a Workflow, and fail if it is larger than Kubernetes can store."""
        count = len(workflow.nodes) + self._looked[workflow.name]
        if not workflow.completed and count < self._measured.get(workflow.name, 0) + MEASURE_EVERY:
            return
        self._measured[workflow.name] = count
        size, stored = sizes(workflow.manifest())
        workflow.largest_bytes = max(workflow.largest_bytes, size)
        workflow.largest_stored_bytes = max(workflow.largest_stored_bytes, stored)
        if stored > MAX_OBJECT_BYTES:
            raise Rejected(f"workflow {workflow.name} is longer than maximum allowed size: {stored} bytes")


def sizes(manifest: Manifest) -> tuple[int, int]:
    """The bytes of a Workflow as JSON, and as Argo stores it: with its nodes compressed if it has more than 1 MiB."""
    size = _bytes(manifest)
    if size <= MAX_OBJECT_BYTES:
        return size, size
    status: dict[str, Any] = dict(manifest["status"])
    nodes = json.dumps(status.pop("nodes"), separators=(",", ":")).encode()
    status["compressedNodes"] = b64encode(gzip.compress(nodes)).decode()
    return size, _bytes({**manifest, "status": status})


def _bytes(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
