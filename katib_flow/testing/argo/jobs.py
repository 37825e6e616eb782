"""Controllers of Jobs and of Kubeflow's training jobs, for a namespace in memory: they run each pod as a process.

The process of a pod runs to its end at once; its output then appears in the log, line by line, over the time that the
pod takes on the simulator's clock, after which the object ends. A failed pod is not repeated.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katib_flow.argo.cluster import POD, Manifest, kind_of
from katib_flow.testing.argo.refusal import Unsupported
from katib_flow.testing.argo.simulator import Simulator
from katib_flow.testing.argo.workflow import text

JOB = ("batch/v1", "Job")
PYTORCH_JOB = ("kubeflow.org/v1", "PyTorchJob")
PATIENCE_SECONDS = 60


@dataclass
class Jobs:
    """The controllers of one simulated namespace.

    Attributes:
        workdir: working directory of every container.
        seconds: how long each pod runs, on the simulator's clock.
    """

    simulator: Simulator
    workdir: Path
    seconds: float = 12.0

    def __post_init__(self) -> None:
        self.simulator.cluster.on_create.append(self._created)

    def _created(self, owner: Manifest) -> None:
        if kind_of(owner) in (JOB, PYTORCH_JOB):
            pods = list(_pods(owner))
            for position, (name, labels, spec) in enumerate(pods):
                self.simulator.cluster.add_pod(name, labels, owner)
                self._run(owner, name, spec, decides=position == 0)

    def _run(self, owner: Manifest, pod: str, spec: Manifest, *, decides: bool) -> None:
        """Run a pod.

        Args:
            decides: whether the exit code of this pod decides the state of the object.
        """
        container, begun = spec["containers"][0], self.simulator.now
        ended = self._process(container)
        lines = ended.stdout.splitlines()

        def there() -> bool:
            current = self.simulator.cluster.peek(kind_of(owner), owner["metadata"]["name"])
            return current is not None and current["metadata"]["uid"] == owner["metadata"]["uid"]

        def say(line: str) -> None:
            if there():
                self.simulator.cluster.print_(pod, line, container["name"])

        def end() -> None:
            if there():
                self.simulator.cluster.set_status(POD, pod, phase="Failed" if ended.returncode else "Succeeded")
                if decides:
                    self._ended(owner, ended.returncode)

        for number, line in enumerate(lines, 1):
            at = begun + self.seconds * number / (len(lines) + 1)
            self.simulator.at(at, lambda line=line: say(line))
        self.simulator.at(begun + self.seconds, end)

    def _process(self, container: Manifest) -> "subprocess.CompletedProcess[str]":
        argv = [*container["command"], *container.get("args", [])]
        variables = {variable["name"]: text(variable.get("value")) for variable in container.get("env", [])}
        return subprocess.run(
            argv, env={"PATH": os.environ["PATH"], **variables}, cwd=self.workdir, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    def _ended(self, owner: Manifest, exit_code: int) -> None:
        good, bad = ("Complete", "BackoffLimitExceeded") if kind_of(owner) == JOB else ("Succeeded", "PyTorchJobFailed")
        condition: dict[str, Any] = {"type": good, "status": "True"}
        if exit_code:
            condition |= {"type": "Failed", "reason": bad, "message": f"its pod ended with exit code {exit_code}"}
        self.simulator.cluster.set_status(kind_of(owner), owner["metadata"]["name"], conditions=[condition])


def _pods(owner: Manifest) -> Iterator[tuple[str, dict[str, str], Manifest]]:
    """The name, labels and spec of each pod that a controller creates; the first one decides the object's state."""
    name, spec = owner["metadata"]["name"], owner["spec"]
    if kind_of(owner) == JOB:
        yield _pod(f"{name}-abcde", {"job-name": name}, spec["template"])
        return
    for role in ("Master", "Worker"):
        replica = spec["pytorchReplicaSpecs"].get(role)
        for number in range(replica.get("replicas", 1) if replica else 0):
            labels = {"training.kubeflow.org/job-name": name, "training.kubeflow.org/replica-type": role.lower()}
            yield _pod(f"{name}-{role.lower()}-{number}", labels, replica["template"])


def _pod(name: str, labels: dict[str, str], template: Manifest) -> tuple[str, dict[str, str], Manifest]:
    spec = template["spec"]
    if len(spec["containers"]) != 1 or spec.get("initContainers"):
        raise Unsupported(f"pod {name}", "pods with more than one container")
    return name, labels | template.get("metadata", {}).get("labels", {}), spec
