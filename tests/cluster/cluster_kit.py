"""Experiments on a real cluster: submit, wait, look, and leave nothing behind."""

import itertools
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from katib_flow.argo.cluster import POD, WORKFLOW, Cluster, KubernetesCluster, Manifest, Missing
from katib_flow.argo.names import LABEL, LIMITS, TRIAL_LABEL
from katib_flow.argo.submit import Following, submit
from katib_flow.history import History, State, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking import Record, Status, Store

PATIENCE_SECONDS = 900.0
HOOK_SECONDS = 120
CONFIG_MAP = ("v1", "ConfigMap")
BUSYBOX = "/usr/local/bin/busybox"  # in the steps' image, which stands for any image here
CODE = """\
import time

def train(x, seconds=0):
    time.sleep(seconds)
    return {"score": x / 2}

def faulty(x):
    if x > 0.5:
        raise ValueError("too high")
    return {"score": x / 2}
"""
COUNT = """\
import katib_flow as kf

def train():
    return {"score": sum(each.numel() for each in kf.load_model().parameters())}
"""


@dataclass(frozen=True)
class Row:
    """A line of the table of seconds.

    Attributes:
        turns: iterations, or turns of a lane.
    """

    what: str
    trials: int
    seconds: float
    turns: int

    @property
    def each(self) -> float:
        return self.seconds / max(1, self.turns)


@dataclass
class Run:
    """An experiment on the cluster."""

    bench: "Bench"
    experiment: Experiment
    name: str
    begun: float = field(default_factory=time.monotonic)

    @property
    def record(self) -> Record:
        found = self.bench.store.keyed(self.name)
        assert found is not None, f"{self.name}: MLflow knows no such run"
        return found

    @property
    def trials(self) -> History:
        return self.bench.store.history(self.record, series=True)

    def wait(self, segment: int = 0) -> Status:
        def show(_: Following) -> None:
            assert time.monotonic() - self.begun < PATIENCE_SECONDS, f"{self.name}: takes too long"

        return Following(self.bench.cluster, self.name, self.bench.store, segment, show).wait()

    def ends(self, what: str = "", turns: int = 0) -> History:
        """Wait for success; the trials."""
        status = self.wait()
        assert status is Status.SUCCEEDED, self.record.reason
        trials = self.trials
        if what:
            self.bench.rows.append(Row(what, len(trials), time.monotonic() - self.begun, turns))
        return trials

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something of the run; what the condition gave."""
        while not (found := condition()):
            assert time.monotonic() - self.begun < PATIENCE_SECONDS, f"{self.name}: waited in vain for {what}"
            time.sleep(1)
        return found

    def pods_of_trials(self) -> list[Manifest]:
        pods = self.bench.cluster.find(POD, {LABEL: self.experiment.name})
        return [pod for pod in pods if TRIAL_LABEL in pod["metadata"]["labels"]]

    def running_pod(self) -> Manifest:
        """A pod of a trial whose main container runs."""

        def running() -> Manifest | None:
            return next((pod for pod in self.pods_of_trials() if _runs(pod)), None)

        return self.until(running, "a trial's pod to run")

    def running_trial(self) -> Any:
        def running() -> Any:
            if (record := self.bench.store.keyed(self.name)) is None:
                return None
            return next((t for t in self.bench.store.history(record) if t.state is State.RUNNING), None)

        return self.until(running, "a running trial")


def _runs(pod: Manifest) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any(each["name"] == "main" and "running" in each.get("state", {}) for each in statuses)


@dataclass
class Bench:
    """A namespace of a cluster, and the MLflow server."""

    cluster: Cluster
    store: Store
    image: str
    rows: list[Row]
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    made: list[tuple[tuple[str, str], str]] = field(default_factory=list[tuple[tuple[str, str], str]])
    names: set[str] = field(default_factory=set[str])
    limits: list[str] = field(default_factory=list[str])
    _count: Any = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def open(cls, namespace: str, image: str, uri: str, rows: list[Row]) -> "Bench":
        return cls(KubernetesCluster(namespace, in_pod=False), Store(uri, "katib-flow-cluster-test"), image, rows)

    def name(self) -> str:
        """One that nothing else has."""
        return f"kf-{self.tag}-{next(self._count)}"

    def experiment(self, **changes: Any) -> Experiment:
        """A small experiment under a name of its own; ``argo`` is added to."""
        return Experiment.parse(spec(self.name(), self.image, self.store.uri, **changes))

    def placed(self, experiment: Experiment) -> Experiment:
        """An experiment from elsewhere, with the image under test and recorded where the others are."""
        ours = spec("x", self.image, self.store.uri)
        return Experiment.parse(experiment.to_dict() | {key: ours[key] for key in ("argo", "tracking")})

    def limit(self, trials: int) -> str:
        """A key of its own in the ConfigMap of limits: how many trials may run at a time."""
        key = self.name()
        self.cluster.patch(CONFIG_MAP, LIMITS, {"data": {key: str(trials)}})
        self.limits.append(key)
        return key

    def force_delete(self, pod: Manifest) -> None:
        """``kubectl delete pod --force``: it is gone at once, and nobody in it is told."""
        from kubernetes import client

        api = client.CoreV1Api()
        api.delete_namespaced_pod(pod["metadata"]["name"], self.cluster.namespace, grace_period_seconds=0)

    def submit(self, experiment: Experiment) -> Run:
        self.names.add(experiment.name)
        return Run(self, experiment, submit(self.cluster, experiment))

    def run(self, **changes: Any) -> Run:
        return self.submit(self.experiment(**changes))

    def create(self, manifest: Manifest) -> str:
        made = self.cluster.create(manifest)
        kind, name = (manifest["apiVersion"], manifest["kind"]), made["metadata"]["name"]
        self.made.append((kind, name))
        return name

    def template(self) -> str:
        """A copy of the installed template katib-flow that runs the image under test, wherever that one is from."""
        kind = (WORKFLOW[0], "WorkflowTemplate")
        spec = self.cluster.get(kind, "katib-flow")["spec"]
        for each in spec["templates"]:
            each["container"] |= {"image": self.image, "imagePullPolicy": "Never"}
        name = f"kf-{self.tag}-template-{next(self._count)}"
        return self.create({"apiVersion": kind[0], "kind": kind[1], "metadata": {"name": name}, "spec": spec})

    def clean_up(self) -> None:
        """Delete what the tests created; the runs stay in MLflow, in an experiment of their own."""
        for name in self.names:
            for workflow in self.cluster.find(WORKFLOW, {LABEL: name}):
                self.cluster.delete(WORKFLOW, workflow["metadata"]["name"])
        for kind, name in self.made:
            self.cluster.delete(kind, name)
        if self.limits:
            self.cluster.patch(CONFIG_MAP, LIMITS, {"data": dict.fromkeys(self.limits)})

    def phase(self, workflow: str) -> str:
        try:
            return (self.cluster.get(WORKFLOW, workflow).get("status") or {}).get("phase") or ""
        except Missing:
            return "gone"


@dataclass(frozen=True)
class Hook:
    """Commands that stop something of the cluster and start it again.

    Attributes:
        stop, start: their words.
    """

    stop: list[str]
    start: list[str]

    @classmethod
    def of_environment(cls, what: str) -> "Hook | None":
        """Those that KATIB_FLOW_STOP_<what> and KATIB_FLOW_START_<what> give; None where they are not both there."""
        stop, start = (os.environ.get(f"KATIB_FLOW_{verb}_{what}", "") for verb in ("STOP", "START"))
        return cls(shlex.split(stop), shlex.split(start)) if stop and start else None

    @contextmanager
    def away(self) -> Iterator[None]:
        subprocess.run(self.stop, check=True, timeout=HOOK_SECONDS)
        try:
            yield
        finally:
            subprocess.run(self.start, check=True, timeout=HOOK_SECONDS)


def most_at_a_time(trials: Iterable[Trial]) -> int:
    """How many trials ran at a time at most, by when they began and ended."""
    spans = [(trial.started, trial.ended) for trial in trials if trial.started and trial.ended]
    return max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans)


def spec(name: str, image: str, uri: str, **changes: Any) -> dict[str, Any]:
    argo = {"image": image, "image_pull_policy": "Never", "pod_gc": "never", **changes.pop("argo", {})}
    data = {
        "name": name,
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"name": "random", "seed": 7},
        "limits": {"max_trials": 4, "parallel_trials": 2, "max_failed_trials": 9},
        "trial": {"function": "cluster_test:train", "code": CODE},
        "tracking": {"experiment": "katib-flow-cluster-test", "uri": uri},
    }
    return {**data, **changes, "argo": argo}


def shell(script: str, *words: str) -> list[str]:
    return [BUSYBOX, "sh", "-c", script, "sh", *words]


def container(image: str, script: str, *words: str, **more: Any) -> dict[str, Any]:
    return {"container": {"image": image, "command": shell(script, *words), **more}}


LOCKED = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
HALVE = f"""echo "score=$(echo "$1" | {BUSYBOX} awk '{{printf "%.17g", $1 / 2}}')\""""


def job(image: str) -> dict[str, Any]:
    main = {
        "name": "main", "image": image, "imagePullPolicy": "Never", "securityContext": LOCKED,
        "command": shell(HALVE, "${x}"),
    }  # fmt: skip
    pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [main]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return {"resource": {"manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}}}


def pipeline(name: str, image: str) -> Manifest:
    """A WorkflowTemplate of two steps, the second of which reports the score."""
    locked = {key: value for key, value in LOCKED.items() if key in ("allowPrivilegeEscalation", "capabilities")}
    step = {"image": image, "imagePullPolicy": "Never", "securityContext": locked}
    from katib_flow.argo.pods import POD_SPEC_PATCH

    return {
        "apiVersion": WORKFLOW[0], "kind": "WorkflowTemplate", "metadata": {"name": name},
        "spec": {
            "entrypoint": "main", "serviceAccountName": "kf-executor", "podSpecPatch": POD_SPEC_PATCH,
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "arguments": {"parameters": [{"name": "x"}]},
            "templates": [
                {"name": "main", "steps": [[{"name": each, "template": each}] for each in ("load", "fit")]},
                {"name": "load", "container": {**step, "command": shell("echo loaded")}},
                {"name": "fit", "container": {**step, "command": shell(HALVE, "{{workflow.parameters.x}}")}},
            ],
        },
    }  # fmt: skip
