"""The machines of the cluster, which run pods, delete them, and let faults strike them."""

from collections import Counter, defaultdict
from collections.abc import Generator
from typing import TYPE_CHECKING

from katib_flow.testing.argo.faults import Fault
from katib_flow.testing.argo.limits import check_pod
from katib_flow.testing.argo.nodes import Phase
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.programs import Killed, Program, Result, TerminationRequest, Waiting

if TYPE_CHECKING:
    from katib_flow.testing.argo.simulator import Simulator

TERMINATED, OUT_OF_MEMORY = 143, 137
GONE_SECONDS = 31.0  # a pod that is deleted is gone after its grace period
MAX_RESULT = 256 * 1024
PAST_DEADLINE = "Pod was active on the node longer than the specified deadline"


class Machine:
    """All machines together, with their pods.

    Attributes:
        started: number of pods that were started, by template.
        busy_seconds: how long main containers ran, by template.
        keep: whether to keep every pod that starts in ``history``.
    """

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._pods: dict[str, dict[str, Pod]] = {}
        self.started: Counter[str] = Counter()
        self.busy_seconds: defaultdict[str, float] = defaultdict(float)
        self.keep = True
        self.history: list[Pod] = []

    def pod(self, workflow: str, node: str) -> Pod | None:
        """The pod of a node, if it exists."""
        return self._pods.get(workflow, {}).get(node)

    def pods(self, workflow: str) -> list[Pod]:
        """The pods of a Workflow that exist now."""
        return list(self._pods.get(workflow, {}).values())

    def start(self, pod: Pod) -> None:
        """Start a pod, and schedule its program and its fault, if one strikes.

        Raises:
            Rejected: its containers could not start.
        """
        check_pod(pod)
        self._pods.setdefault(pod.workflow, {})[pod.node] = pod
        self.started[pod.template] += 1
        if self.keep:
            self.history.append(pod)
        fault = self._simulator.faults(pod)
        begins = self._simulator.now + self._simulator.costs.start
        if fault is Fault.INIT:
            inits = [container["name"] for container in pod.spec["initContainers"]]
            self._simulator.at(begins, lambda: self._ended(pod, Result(1, container=inits[-1])))
        else:
            self._simulator.at(begins, lambda: self._begin(pod, fault))

    def _begin(self, pod: Pod, fault: Fault | None) -> None:
        if pod.phase.fulfilled or pod.gone:
            return
        now = self._simulator.now
        pod.phase, pod.began = Phase.RUNNING, now
        self._tell(pod)
        program = self._simulator.programs(pod)
        if isinstance(program, Waiting):
            self._begin_waiting(pod, program, fault)
            return
        ends = now + max(0.0, program.seconds(pod))
        deadline = pod.spec.get("activeDeadlineSeconds")
        if deadline is not None and (pod.created + deadline < ends or fault is Fault.DEADLINE):
            self._simulator.at(pod.created + deadline, lambda: self._past_deadline(pod))
        elif fault is not Fault.DEADLINE:
            self._simulator.at(ends, lambda: self._end(pod, program, fault))

    def _begin_waiting(self, pod: Pod, program: Waiting, fault: Fault | None) -> None:
        deadline = pod.spec.get("activeDeadlineSeconds")
        if deadline is not None:
            self._simulator.at(pod.created + deadline, lambda: self._past_deadline(pod))
        if fault is Fault.DELETED:
            self._lose(pod)
        elif fault is not Fault.DEADLINE:
            self._go_on(pod, program.steps(pod), fault, terminate=False)

    def _go_on(self, pod: Pod, steps: Generator[float, None, Result], fault: Fault | None, *, terminate: bool) -> None:
        """Let a waiting program continue until it waits again; most faults strike during its first wait.

        Args:
            terminate: whether the program gets a termination request.
        """
        if (pod.gone or "stopped" in pod.notes) and not pod.terminated:
            steps.close()
            return
        try:
            seconds = steps.throw(TerminationRequest()) if terminate or pod.terminated else next(steps)
        except StopIteration as ended:
            pod.called += 1
            if not pod.terminated:  # otherwise, nobody reads its result
                self._finish(pod, ended.value, fault)
            return
        if fault in (Fault.HALFWAY, Fault.MEMORY):
            steps.close()
            self._lose(pod) if fault is Fault.HALFWAY else self._ended(pod, Result(OUT_OF_MEMORY), reason="OOMKilled")
        else:
            again = self._simulator.now + seconds
            self._simulator.at(again, lambda: self._go_on(pod, steps, fault, terminate=fault is Fault.EVICTED))

    def _end(self, pod: Pod, program: Program, fault: Fault | None) -> None:
        if pod.phase.fulfilled or pod.gone:
            return
        if fault is Fault.DELETED:
            self._lose(pod)
        elif fault is Fault.EVICTED:
            self._ended(pod, Result(TERMINATED))
        elif fault is Fault.MEMORY:
            self._ended(pod, Result(OUT_OF_MEMORY), reason="OOMKilled")
        elif fault is Fault.HALFWAY:
            pod.notes["halfway"] = True
            self._called(pod, program)
            self._lose(pod)
        else:
            if fault is Fault.TWICE:
                self._called(pod, program)
            self._finish(pod, self._called(pod, program), fault)

    def _finish(self, pod: Pod, result: Result | None, fault: Fault | None) -> None:
        """End a pod whose program has done all its work, or whose process is gone (None)."""
        if fault is Fault.SIDECAR:
            result = Result(3, container=pod.spec["containers"][-1]["name"])
        if fault is Fault.OUTPUT:
            self._unreadable(pod, "/var/run/argo/outputs")
        elif result is None or fault in (Fault.LOST, Fault.TWICE):
            self._lose(pod)
        else:
            self._ended(pod, result)

    def _called(self, pod: Pod, program: Program) -> Result | None:
        """Run the program; None if its process was killed."""
        try:
            result = program.run(pod)
        except Killed:
            return None
        pod.called += 1
        return result

    def _ended(self, pod: Pod, result: Result, reason: str = "Error") -> None:
        """Settle a pod whose containers have ended, as Argo reads them."""
        self._stopped(pod)
        if result.exit_code and not (result.container != "main" and result.exit_code in (TERMINATED, OUT_OF_MEMORY)):
            if result.container == "main":
                pod.exit_code = str(result.exit_code)
            elif result.container not in [container["name"] for container in pod.spec["initContainers"]]:
                pod.exit_code = "0"  # that of main; a sidecar failed
            message = f"{result.container}: {reason} (exit code {result.exit_code})"
            outputs, _ = _outputs(pod, result)
            self._settle(pod, Phase.FAILED, message, outputs if result.container == "main" else None)
            return
        pod.exit_code = "0"
        outputs, missing = _outputs(pod, result)
        if missing:
            self._unreadable(pod, missing)
            return
        if result.printed is not None:
            pod.result = result.printed.encode()[-MAX_RESULT:].decode(errors="ignore")
        self._settle(pod, Phase.SUCCEEDED, "", outputs)

    def _unreadable(self, pod: Pod, path: str) -> None:
        self._stopped(pod)
        pod.exit_code = "0"
        self._settle(pod, Phase.ERROR, f"wait: Error (exit code 64): open {path}: no such file or directory", None)

    def _past_deadline(self, pod: Pod) -> None:
        if not pod.phase.fulfilled and not pod.gone:
            self._stopped(pod)
            self._settle(pod, Phase.FAILED, PAST_DEADLINE, None)

    def _stopped(self, pod: Pod) -> None:
        if pod.began is not None and "stopped" not in pod.notes:
            pod.notes["stopped"] = self._simulator.now
            self.busy_seconds[pod.template] += self._simulator.now - pod.began

    def _settle(self, pod: Pod, phase: Phase, message: str, outputs: dict[str, str] | None) -> None:
        pod.outputs, pod.message = outputs, message

        def settled() -> None:
            if not pod.gone:
                pod.phase, pod.ended = phase, self._simulator.now
                self._tell(pod)

        self._simulator.at(self._simulator.now + self._simulator.costs.end, settled)

    def _lose(self, pod: Pod) -> None:
        """Remove a pod object, and with it the record of its end."""
        self._stopped(pod)
        pod.gone = True
        self._pods[pod.workflow].pop(pod.node, None)
        self._simulator.at(self._simulator.now + GONE_SECONDS, lambda: self._tell(pod))

    def delete(self, workflow: str, node: str) -> None:
        """Delete the pod of a node, as ``kubectl delete pod`` does, after its grace period."""
        pod = self._pods[workflow][node]
        self._lose(pod)

    def remove_all(self, workflow: str) -> None:
        """Remove all pods of a deleted Workflow."""
        for pod in self._pods.pop(workflow, {}).values():
            self._stopped(pod)
            pod.gone = True

    def terminate(self, pod: Pod) -> None:
        """Terminate a pod, as Argo does: its containers get SIGTERM, and nobody reads its result."""
        self._stopped(pod)
        pod.terminated = pod.gone = True

    def forget(self, pod: Pod) -> None:
        """Drop a pod whose result has been read."""
        self._pods.get(pod.workflow, {}).pop(pod.node, None)

    def _tell(self, pod: Pod) -> None:
        workflow = self._simulator.workflows[pod.workflow]
        self._simulator.look_again(workflow, self._simulator.now)


def _outputs(pod: Pod, result: Result) -> tuple[dict[str, str] | None, str]:
    """The output parameters, and the path of a missing file without a default, or ""."""
    values: dict[str, str] = {}
    for declared in pod.declared_outputs:
        source = declared["valueFrom"]
        if source["path"] in result.files:
            values[declared["name"]] = result.files[source["path"]].removesuffix("\n")
        elif "default" in source:
            values[declared["name"]] = str(source["default"])
        else:
            return None, source["path"]
    return values or None, ""
