"""The simulated cluster: Argo's controller, and machines that run pods, on a clock that jumps from event to event."""

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

MAX_OBJECT_BYTES = 1 << 20
MEASURE_EVERY = 100  # nodes made, and looks taken, between two measurements of a growing Workflow
TEMPLATE = ("argoproj.io/v1alpha1", "WorkflowTemplate")
CLUSTER_TEMPLATE = ("argoproj.io/v1alpha1", "ClusterWorkflowTemplate")


@dataclass(frozen=True)
class Costs:
    """Seconds that Argo and Kubernetes take beside what a program does.

    Attributes:
        requeue: the controller looks at a Workflow again so long after it last did (DEFAULT_REQUEUE_TIME).
        start: scheduling, and Argo's init container.
        end: reading the outputs, when main has ended.
    """

    requeue: float = 10.0
    start: float = 1.0
    end: float = 1.0


FREE = Costs(0.0, 0.0, 0.0)


@dataclass
class Simulator:
    """One namespace with Argo.

    Attributes:
        programs: what runs in pods.
        faults: what goes wrong with them.
        cluster: the Kubernetes API; a Workflow created there starts, and one patched there is looked at again.
        workflows: all that were ever there, by name.
        now: seconds since the epoch.
        before_each: called before each look of the controller; a test restarts it there.
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
        """Create a Workflow; its name.

        Raises:
            Unsupported: the simulator does not know something in it.
            Rejected: Argo would not take it.
        """
        return self.cluster.create(manifest)["metadata"]["name"]

    def run(self, until: float | None = None, *, most: int = 10_000_000) -> None:
        """Let time pass until nothing is left to happen, or until a moment.

        Args:
            until: seconds since the epoch.
            most: events after which something must be wrong.
        """
        for _ in range(most):
            if not self._events or (until is not None and self._events[0][0] > until):
                break
            self.step()
        else:
            raise AssertionError(f"{most} events, and no end")
        if until is not None:
            self.now = max(self.now, until)

    def step(self) -> None:
        """Let the next thing happen."""
        at, _, action = heapq.heappop(self._events)
        self.now = max(self.now, at)
        action()

    def __getitem__(self, name: str) -> Workflow:
        return self.workflows[name]

    def stop(self, name: str, strategy: str = "Stop") -> None:
        """``argo stop``, or with Terminate ``argo terminate``."""
        self.cluster.patch(WORKFLOW, name, {"spec": {"shutdown": strategy}})

    def suspend(self, name: str, *, on: bool = True) -> None:
        """``argo suspend``, or ``argo resume``."""
        self.cluster.patch(WORKFLOW, name, {"spec": {"suspend": on or None}})

    def restart_controller(self) -> None:
        """The controller goes away and comes back: all it knows is what it had written."""
        for name, workflow in self.workflows.items():
            if not workflow.completed:
                self.workflows[name] = Workflow.load(workflow.save())
                self.look_again(self.workflows[name], self.now)
        self.locks.recover(self.workflows.values())

    def look(self, name: str, *, whole: bool = False) -> None:
        """One look of the controller at a Workflow, now; it may be called at any moment.

        Args:
            whole: at every node, not only where something has changed.
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
            self.cluster.delete(WORKFLOW, metadata["name"])  # Argo would have refused it, or failed it at once
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
        found = self.cluster.peek(CLUSTER_TEMPLATE if cluster_wide else TEMPLATE, name)
        return found["spec"] if found else None

    # what an operation needs

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def look_again(self, workflow: Workflow, at: float) -> None:
        """Have the controller look at a Workflow, and never sooner than the cost of a look allows."""
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
        for each in self.before_each:
            each(self, name)
        self.look(name)

    def pod(self, workflow: Workflow, node: str) -> Pod | None:
        return self.machine.pod(workflow.name, node)

    def pods(self, workflow: Workflow) -> list[Pod]:
        return self.machine.pods(workflow.name)

    def start(self, workflow: Workflow, pod: Pod) -> None:
        lint.check_labels(pod.labels)
        self.machine.start(pod)

    def terminate(self, pod: Pod) -> None:
        self.machine.terminate(pod)

    def forget(self, pod: Pod) -> None:
        self.machine.forget(pod)

    def acquire(self, workflow: Workflow, node: str, synchronization: Manifest) -> str:
        return self.locks.acquire((workflow.name, node), workflow.created, synchronization)

    def release(self, workflow: Workflow, node: str) -> None:
        if self.locks.release(workflow.name, node):
            for other in self.workflows.values():
                if not other.completed and any(each.waiting for each in other.nodes):
                    self.look_again(other, self.now)

    # limits

    def _measure(self, workflow: Workflow) -> None:
        """Keep the high-water mark of a Workflow's size; fail where it outgrows what Kubernetes stores."""
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
    """Bytes of a Workflow as JSON, and as Argo stores it: its nodes compressed, where it is more than 1 MiB."""
    size = _bytes(manifest)
    if size <= MAX_OBJECT_BYTES:
        return size, size
    status: dict[str, Any] = dict(manifest["status"])
    nodes = json.dumps(status.pop("nodes"), separators=(",", ":")).encode()
    status["compressedNodes"] = b64encode(gzip.compress(nodes)).decode()
    return size, _bytes({**manifest, "status": status})


def _bytes(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
