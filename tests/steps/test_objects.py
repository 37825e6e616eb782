"""Trials that are Kubernetes objects: created once, followed to their end, deleted; on a namespace in memory."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from katib_flow.argo.cluster import POD, WORKFLOW, ClusterError
from katib_flow.argo.steps import objects
from katib_flow.argo.steps.collect import collect_metrics, finish
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.manifests import object_name
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.history import State, Trial
from katib_flow.spec import Experiment
from katib_flow.testing.kubernetes import EPOCH, FakeCluster
from katib_flow.tracking import Store
from katib_flow.trial.outcome import StopTrial

JOB = ("batch/v1", "Job")
OWNER = objects.owner("exp-x7k2p", "uid-of-workflow")
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {
    "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]
}


def experiment(**changes: Any) -> Experiment:
    pod = {"containers": [{"name": "main", "image": "x", "args": ["--x=${x}", "--in=${trial.name}"]}]}
    spec = {"template": {"metadata": {"labels": {"a": "${trial.id}"}}, "spec": pod}}
    data = {
        "name": "objects",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "categorical", "values": ['it\'s ${y} {{z}} $(w)\n"q"']}},
        "limits": {"max_trials": 2, "parallel_trials": 1, "trial_timeout": 100},
        "trial": {"resource": {"manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}}},
    }
    return Experiment.parse(data | changes)


class Asked:
    """A watch that a test answers for."""

    def __init__(self) -> None:
        self.terminated = False
        self.request: StopTrial | None = None
        self.heard: list[float] = []

    def __call__(self) -> StopTrial | None:
        return self.request

    def hear(self, metrics: Any) -> None:
        self.heard += [metric.value for metric in metrics]

    def end(self) -> None: ...


@dataclass
class World:
    """One trial of an experiment, and what happens in the cluster while its pod waits.

    Attributes:
        then: what happens at each wait, in order; nothing after the last.
    """

    context: Context
    cluster: FakeCluster
    directory: Path
    trial_id: str
    watch: Asked = field(default_factory=Asked)
    now: float = 0.0

    def run(self, *then: Callable[[], None]) -> int:
        events = list(then)

        def sleep(seconds: float) -> None:
            self.now += seconds
            if events:
                events.pop(0)()
            assert self.now < 10_000, "it waits for ever"

        hooks: Any = {"watching": lambda *_: self.watch, "sleep": sleep, "clock": lambda: self.now}
        return objects.run(self.context, self.cluster, self.trial_id, self.directory, OWNER, **hooks)

    @property
    def name(self) -> str:
        return object_name(self.context.record.key, self.trial_id)

    @property
    def trial(self) -> Trial:
        history = self.context.store.history(self.context.record, series=True)
        return next(trial for trial in history if trial.id == self.trial_id)

    def peek(self) -> Any:
        return self.cluster.peek(self.kind, self.name)

    def starts_a_pod(self, **labels: str) -> None:
        self.cluster.add_pod(f"{self.name}-abcde", labels)

    def prints(self, text: str, container: str = "main") -> None:
        self.cluster.print_(f"{self.name}-abcde", text, container)

    def is_(self, status: dict[str, Any]) -> None:
        self.cluster.set_status(self.kind, self.name, **status)

    kind: tuple[str, str] = JOB


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def world(store: Store, tmp_path: Path) -> Any:
    def make(**changes: Any) -> World:
        context = Context(store, store.create(experiment(**changes), key=f"objects-{time.monotonic_ns()}"), 0)
        made = World(context, FakeCluster(), tmp_path / "kf" / "trial", suggest_iteration(context, 1)[0])
        made.cluster.clock = lambda: EPOCH + made.now
        return made

    return make


def finished(here: World, monkeypatch: pytest.MonkeyPatch, poll_seconds: float, net_seconds: float) -> int:
    """Run with news from the cluster, where something completes the Job while it is waited for."""
    monkeypatch.setattr(objects, "POLL_SECONDS", poll_seconds)
    monkeypatch.setattr(objects, "NET_SECONDS", net_seconds)
    hooks: Any = {"watching": lambda *_: here.watch}
    return objects.run(here.context, here.cluster, here.trial_id, here.directory, OWNER, **hooks)


def completing(here: World, complete: Callable[[], None]) -> None:
    """Have the Job's pod run, and then something complete the Job, soon after it was created."""

    def run() -> None:
        here.starts_a_pod()
        here.prints("score=0.5")
        complete()

    timer = threading.Timer(0.1, run)
    here.cluster.on_create.append(lambda made: timer.start() if made["kind"] == "Job" else None)


def test_the_end_of_an_object_is_told_by_the_cluster(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here: World = world()
    completing(here, lambda: here.is_(COMPLETE))
    assert finished(here, monkeypatch, poll_seconds=600, net_seconds=600) == 0  # it never looks by itself


def test_an_end_that_the_cluster_did_not_tell_of_is_found(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here: World = world()
    completing(here, lambda: here.peek().update(status=COMPLETE))
    assert finished(here, monkeypatch, poll_seconds=0.01, net_seconds=0.05) == 0


@pytest.mark.parametrize("refusal", [403, 405])
def test_where_the_cluster_tells_nothing_it_is_asked(world: Any, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    here: World = world()

    def refuse(*_: Any) -> Any:
        raise ClusterError("watch Job", refusal)

    monkeypatch.setattr(here.cluster, "changes", refuse)
    completing(here, lambda: here.is_(COMPLETE))
    assert finished(here, monkeypatch, poll_seconds=0.01, net_seconds=600) == 0


def test_a_job_is_created_with_the_trials_values_and_followed_to_its_success(world: Any) -> None:
    here: World = world()
    ran = here.run(
        here.starts_a_pod,
        lambda: here.prints("score=0.5\nloading"),
        lambda: here.prints("score=0.75"),
        lambda: here.is_(COMPLETE),
    )
    assert (ran, here.trial.state, here.trial.observations) == (0, State.SUCCEEDED, {"score": 0.75})
    assert [(metric.value, metric.timestamp_ms) for metric in here.trial.series["score"]] == [
        (0.5, int(EPOCH + 4) * 1000), (0.75, int(EPOCH + 6) * 1000),
    ]  # fmt: skip
    assert here.watch.heard == [0.5, 0.75]
    assert here.cluster.names(JOB) == []  # cleaned up


def test_the_object_is_owned_labelled_and_named_and_holds_each_value_as_one_text(world: Any) -> None:
    here: World = world()
    made: list[Any] = []
    here.cluster.on_create.append(made.append)
    here.run(lambda: here.is_(COMPLETE))
    manifest = made[0]
    assert manifest["metadata"]["name"] == here.name
    assert manifest["metadata"]["ownerReferences"] == [OWNER]
    assert manifest["metadata"]["labels"] == {
        "katib-flow/experiment": "objects", "katib-flow/run": here.context.record.key, "katib-flow/trial": "t00000",
    }  # fmt: skip
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == {"a": "t00000"}
    assert template["spec"]["containers"][0]["args"] == [
        "--x=it's ${y} {{z}} $(w)\n\"q\"", f"--in={here.name}",
    ]  # fmt: skip


def test_a_failure_is_the_trials_with_reason_and_message(world: Any) -> None:
    here: World = world()
    assert here.run(lambda: here.is_(FAILED)) == 42
    assert here.trial.state is State.FAILED
    assert here.trial.message == f"Job {here.name} failed: BackoffLimitExceeded: too often"
    assert here.run() == 42  # tried again, it stays as it is


def test_success_without_the_metric_is_told_with_the_last_line(world: Any) -> None:
    here: World = world()
    assert here.run(here.starts_a_pod, lambda: here.prints("Score: 1"), lambda: here.is_(COMPLETE)) == 42
    assert here.trial.state is State.METRICS_UNAVAILABLE
    assert 'the last was "Score: 1"' in here.trial.message


def test_only_the_primary_pods_logs_are_read(world: Any) -> None:
    manifest = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "spec": {}}
    labels = {"training.kubeflow.org/replica-type": "master"}
    here: World = world(trial={"resource": {"manifest": manifest, "primary_pod_labels": labels}})
    here.kind = ("kubeflow.org/v1", "PyTorchJob")

    def start() -> None:
        here.starts_a_pod(**labels)
        here.prints("score=1")
        here.cluster.add_pod(f"{here.name}-worker-0", {"training.kubeflow.org/replica-type": "worker"})
        here.cluster.print_(f"{here.name}-worker-0", "score=2")
        here.cluster.add_pod("somebody-elses", labels)
        here.cluster.print_("somebody-elses", "score=3")

    assert here.run(start, lambda: here.is_({"conditions": [{"type": "Succeeded", "status": "True"}]})) == 0
    assert here.trial.observations == {"score": 1.0}


def test_a_pod_that_takes_over_goes_on_with_the_object_of_the_last(world: Any) -> None:
    here: World = world()

    def told_to_go() -> None:
        here.starts_a_pod()
        here.prints("score=0.5")
        here.watch.terminated = True

    assert here.run(told_to_go) == 143
    assert (here.trial.state, here.cluster.names(JOB)) == (State.RUNNING, [here.name])
    uid = here.cluster.object(JOB, here.name)["metadata"]["uid"]
    here.watch.terminated = False
    seen: list[str] = []
    assert (
        here.run(
            lambda: seen.append(here.cluster.object(JOB, here.name)["metadata"]["uid"]), lambda: here.is_(COMPLETE)
        )
        == 0
    )
    assert seen == [uid]
    assert (here.trial.retries, len(here.trial.series["score"])) == (1, 1)  # the same line is the same point


def test_an_early_stop_deletes_the_object_and_keeps_what_was_reported(world: Any) -> None:
    here: World = world()

    def stop() -> None:
        here.watch.request = StopTrial(State.EARLY_STOPPED, "it is no good")

    assert here.run(here.starts_a_pod, lambda: here.prints("score=0.25"), stop) == 0
    assert (here.trial.state, here.trial.message) == (State.EARLY_STOPPED, "stopped early: it is no good")
    assert here.trial.observations == {"score": 0.25}
    assert here.cluster.names(JOB) == []


def test_a_trial_that_takes_too_long_is_deleted_and_failed(world: Any) -> None:
    here: World = world()
    assert here.run() == 42
    assert here.trial.message == "reached limits.trial_timeout (100 s)"
    assert here.cluster.names(JOB) == []


def test_an_object_is_retained_where_the_spec_says_so(world: Any) -> None:
    resource = experiment().trial.resource
    assert resource is not None
    here: World = world(trial={"resource": {"manifest": resource.manifest, "retain": True}})
    here.run(lambda: here.is_(FAILED))
    assert here.cluster.names(JOB) == [here.name]


def test_an_object_that_somebody_deletes_is_a_failed_trial(world: Any) -> None:
    here: World = world()
    assert here.run(lambda: here.cluster.delete(JOB, here.name)) == 42
    assert here.trial.message == f"Job {here.name} was deleted while it ran"


def test_a_cluster_that_is_away_for_minutes_is_waited_for(world: Any) -> None:
    here: World = world(limits={"max_trials": 1})
    away = [ClusterError("get Job: the cluster does not answer")] * 200

    def goes() -> None:
        here.cluster.refusals += away

    assert here.run(goes, *[lambda: None] * 220, lambda: here.is_(COMPLETE)) == 42
    assert here.trial.state is State.METRICS_UNAVAILABLE


def test_what_the_cluster_refuses_to_create_is_the_trials_failure(world: Any) -> None:
    here: World = world()
    here.cluster.refusals.append(ClusterError("create Job x: the cluster answers 403 Forbidden", 403))
    assert here.run() == 42
    assert here.trial.message == "create Job x: the cluster answers 403 Forbidden"


def test_a_name_that_belongs_to_another_is_left_alone(world: Any) -> None:
    here: World = world()
    here.cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": here.name}})
    assert here.run() == 42
    assert here.trial.message == f"Job {here.name}: found one of another owner, need this name for the trial"
    assert here.cluster.names(JOB) == [here.name]


def test_an_old_object_that_is_still_being_deleted_is_waited_for(world: Any) -> None:
    here: World = world()
    here.run(lambda: here.is_(FAILED))  # to learn the manifest
    other: World = world()
    manifest = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": other.name, "deletionTimestamp": "now", "labels": {
            "katib-flow/run": other.context.record.key, "katib-flow/trial": other.trial_id,
        }},
    }  # fmt: skip
    other.cluster.create(manifest)
    ran = other.run(lambda: other.cluster.delete(JOB, other.name), lambda: None, lambda: other.is_(FAILED))
    assert ran == 42
    assert other.trial.message.endswith("BackoffLimitExceeded: too often")


def test_a_template_is_a_workflow_with_the_arguments(world: Any) -> None:
    template = {"name": "pipeline", "cluster_scope": True, "arguments": {"x": "<${x}>", "id": "${trial.id}"}}
    here: World = world(trial={"template": template})
    here.kind = WORKFLOW
    made: list[Any] = []
    here.cluster.on_create.append(made.append)
    outputs = {"parameters": [{"name": "score", "value": "0.5"}, {"name": "other", "value": "x"}]}
    ran = here.run(
        lambda: here.is_({"phase": "Running", "finishedAt": None}),
        lambda: here.is_({"phase": "Succeeded", "finishedAt": "2026-01-01T00:00:00Z", "outputs": outputs}),
    )
    assert (ran, here.trial.observations) == (0, {"score": 0.5})
    assert made[0]["spec"] == {
        "workflowTemplateRef": {"name": "pipeline", "clusterScope": True},
        "arguments": {"parameters": [
            {"name": "x", "value": "<it's ${y} {{z}} $(w)\n\"q\">"}, {"name": "id", "value": "t00000"},
        ]},
    }  # fmt: skip


@pytest.mark.parametrize("phase", ["Failed", "Error"])
def test_a_workflow_that_does_not_succeed_is_a_failed_trial(world: Any, phase: str) -> None:
    here: World = world(trial={"template": {"name": "pipeline"}})
    here.kind = WORKFLOW
    ended = {"phase": phase, "finishedAt": "2026-01-01T00:00:00Z", "message": "child failed"}
    assert here.run(lambda: here.is_(ended)) == 42
    assert here.trial.message == f"Workflow {here.name} failed: child failed"


def test_pushed_metrics_are_read_from_the_trials_run(world: Any) -> None:
    from mlflow import MlflowClient

    here: World = world(metrics={"source": "push"})
    client = MlflowClient(here.context.store.uri)

    def push() -> None:
        for step in range(3):
            client.log_metric(here.trial.run_id, "score", step / 4, step=step)

    assert here.run(push, lambda: here.is_(COMPLETE)) == 0
    assert (here.trial.state, here.trial.observations) == (State.SUCCEEDED, {"score": 0.5})
    assert [metric.step for metric in here.trial.series["score"]] == [0, 1, 2]


def test_a_file_is_read_by_a_sidecar_in_the_objects_pods(world: Any) -> None:
    here: World = world(metrics={"source": "file", "path": "/logs/metrics.log"})
    made: list[Any] = []
    here.cluster.on_create.append(made.append)

    def work() -> None:
        here.starts_a_pod()
        here.prints("score=9")
        here.prints(json.dumps({"metrics": {"score": 0.5}, "step": 7}), "katib-flow-metrics")

    assert here.run(work, lambda: here.is_(COMPLETE)) == 0
    assert [(metric.value, metric.step) for metric in here.trial.series["score"]] == [(0.5, 7)]
    pod = made[0]["spec"]["template"]["spec"]
    sidecar = pod["initContainers"][0]
    assert (sidecar["name"], sidecar["restartPolicy"]) == ("katib-flow-metrics", "Always")
    assert sidecar["securityContext"]["runAsNonRoot"]
    mount = {"name": "katib-flow-metrics", "mountPath": "/logs"}
    assert pod["containers"][0]["volumeMounts"] == [mount]
    assert sidecar["volumeMounts"] == [{**mount, "readOnly": True}]
    assert pod["volumes"] == [{"name": "katib-flow-metrics", "emptyDir": {}}]


def test_what_a_stopped_workflow_leaves_running_is_deleted(world: Any) -> None:
    for close in (lambda c, k: finish(c, "Failed", "", k), collect_metrics):
        here: World = world()

        def told_to_go(here: World = here) -> None:
            here.watch.terminated = True

        here.run(told_to_go)
        assert here.cluster.names(JOB) == [here.name]
        close(here.context, lambda here=here: here.cluster)
        assert here.cluster.names(JOB) == []
        assert here.trial.state.final


def test_names_leave_room_for_what_controllers_append() -> None:
    assert object_name("mnist-x7k2p", "t00003") == "mnist-x7k2p-t00003"
    long = object_name("a" * 45 + "-x7k2p", "t00003")
    assert len(long) <= 45
    assert long.endswith("-t00003")
    assert long != object_name("a" * 45 + "-x7k2q", "t00003")


def test_a_log_is_read_on_from_where_it_was_left_whatever_the_times_look_like(world: Any) -> None:
    here: World = world()
    lines = ["2026-01-01T00:00:00.1Z a\rz", "2026-01-01T00:00:00.1Z b", "2026-01-01T00:00:00.123456789Z c"]
    later = [f"2026-01-01T00:00:01Z {letter}" for letter in "def"]  # at one moment
    shown = [lines[:1], lines[:2], lines, [*lines, *later[:2]], [lines[2], *later]]
    here.cluster.add_pod(f"{here.name}-0")
    from katib_flow.argo.steps.manifests import watched
    from katib_flow.argo.steps.pod_logs import PodLogs
    from katib_flow.trial.protocol import TrialDirectory, substitutions

    suggestion = here.trial.suggestion
    values = substitutions(here.context.experiment, suggestion, TrialDirectory(Path()))
    thing = watched(here.context.experiment, here.context.record.key, here.trial_id, values, OWNER)
    found: list[str] = []
    logs = PodLogs(here.cluster, thing, None, lambda line, _: found.append(line))
    for each in shown:
        here.cluster.log = lambda *_, each=each: "".join(f"{line}\n" for line in each)  # type: ignore[method-assign]
        logs.read()
        logs.read()
    assert found == ["a\rz", "b", "c", "d", "e", "f"]
    assert POD == ("v1", "Pod")
