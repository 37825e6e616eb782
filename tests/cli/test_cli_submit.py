"""`submit` and `resume --argo`, on a namespace in memory and a real store."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import spec
from typer.testing import CliRunner

from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.spec_text import decode_spec
from katib_flow.argo.steps.context import Context
from katib_flow.argo.submit import Following
from katib_flow.cli.app import app
from katib_flow.history import State, Suggestion, Trial
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Change, Status, Store


@pytest.fixture
def cluster(monkeypatch: Any) -> FakeCluster:
    fake = FakeCluster(namespace="ml")
    monkeypatch.setattr("katib_flow.argo.cluster.KubernetesCluster", lambda namespace, in_pod, **_: fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return fake


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec(trial={"command": ["train", "${lr}"]})))
    return str(path)


def ends(cluster: FakeCluster, uri: str, status: Status) -> None:
    """Have a Workflow that is created end at once, its one trial recorded."""

    def created(workflow: dict[str, Any]) -> None:
        name, store = workflow["metadata"]["name"], Store(uri)
        given = {each["name"]: each["value"] for each in workflow["spec"]["arguments"]["parameters"]}
        experiment = decode_spec(given["spec"], "spec")
        context = Context(store, store.create(experiment, key=name.removesuffix("-s1")), 0)
        suggestion = Suggestion(0, {"lr": 0.5})
        store.write(context.record, [Change(Trial(suggestion, State.SUCCEEDED, {"accuracy": 0.75}))], lookup=True)
        store.summarise(context.record, store.history(context.record), status, "it is over")
        phase = "Failed" if status is Status.FAILED else "Succeeded"
        cluster.set_status(WORKFLOW, name, phase=phase)

    cluster.on_create.append(created)


WAITS = "suggest waits: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NODES = {
    "a": {
        "id": "a", "name": "run.suggest(0)", "type": "Pod", "templateName": "suggest", "phase": "Pending",
        "message": "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
}  # fmt: skip


def call(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), catch_exceptions=True)


def test_submit_creates_the_workflow_and_says_how_to_see_it(cluster: FakeCluster, file: str) -> None:
    done = call("submit", file, "--image", "registry.example.com/x:1")
    assert done.exit_code == 0, done.output
    (name,) = cluster.names(WORKFLOW)
    assert f"workflow ml/{name}: created" in done.output
    assert f"argo get -n ml {name}" in done.output


@pytest.mark.parametrize(("status", "code"), [(Status.SUCCEEDED, 0), (Status.FAILED, 1), (Status.STOPPED, 0)])
def test_watching_shows_the_trials_and_exits_as_the_experiment_does(
    cluster: FakeCluster, file: str, uri: str, status: Status, code: int
) -> None:
    ends(cluster, uri, status)
    done = call("submit", file, "--image", "x:1", "--watch", "--tracking-uri", uri)
    assert done.exit_code == code, done.output
    assert "t00000 succeeded (best so far): accuracy 0.75" in done.output
    assert f"{status}: it is over" in done.output


def test_a_step_that_cannot_start_is_told_on_the_watchers_terminal(
    cluster: FakeCluster, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        (name,) = cluster.names(WORKFLOW)
        if len(looks) == 4:
            cluster.set_status(WORKFLOW, name, phase="Failed", message="too late", nodes=NODES)

    def created(workflow: dict[str, Any]) -> None:
        cluster.set_status(WORKFLOW, workflow["metadata"]["name"], phase="Running", nodes=NODES)

    cluster.on_create.append(created)
    monkeypatch.setattr("katib_flow.cli.cluster.Following", partial(Following, sleep=sleep))
    for quiet in ([], ["--quiet"]):
        done = call("submit", file, "--image", "x:1", "--watch", *quiet)
        assert done.exit_code == 1
        told = done.output.splitlines()
        assert told.count(WAITS) == 1
        assert [line for line in told if line.endswith(": failed: the workflow failed: too late")]
        cluster.delete(WORKFLOW, cluster.names(WORKFLOW)[0])
        looks.clear()


def test_an_mlflow_that_is_not_reached_from_here_leaves_what_argo_knows(cluster: FakeCluster, file: str) -> None:
    cluster.on_create.append(lambda made: cluster.set_status(WORKFLOW, made["metadata"]["name"], phase="Succeeded"))
    done = call("submit", file, "--image", "x:1", "--watch", "--tracking-uri", "http://127.0.0.1:9")
    assert done.exit_code == 0, done.output
    assert "does not answer" in done.output
    assert "; only what Argo knows is shown" in done.output
    assert done.output.rstrip().endswith(": succeeded")


def running(cluster: FakeCluster, uri: str, file: str) -> str:
    """An experiment that MLflow has as running; its name on the cluster."""
    call("submit", file, "--image", "x:1")
    (name,) = cluster.names(WORKFLOW)
    given = {each["name"]: each["value"] for each in cluster.object(WORKFLOW, name)["spec"]["arguments"]["parameters"]}
    Store(uri).create(decode_spec(given["spec"], "spec"), key=name)
    return name


def test_status_says_what_waits_on_the_cluster(cluster: FakeCluster, file: str, uri: str) -> None:
    name = running(cluster, uri, file)
    cluster.set_status(WORKFLOW, name, phase="Running", nodes=NODES)
    done = call("status", "digits-mlp", "--tracking-uri", uri)
    assert f"workflow    ml/{name} Running\n" in done.output
    assert f"waiting     {WAITS}\n" in done.output
    assert json.loads(call("status", "digits-mlp", "--tracking-uri", uri, "-o", "json").output)["waiting"] == [WAITS]


def test_status_says_that_a_workflow_has_failed_which_mlflow_has_as_running(
    cluster: FakeCluster, file: str, uri: str
) -> None:
    name = running(cluster, uri, file)
    cluster.set_status(WORKFLOW, name, phase="Failed", message="too late")
    assert (
        f"ml/{name} Failed: the workflow failed: too late" in call("status", "digits-mlp", "--tracking-uri", uri).output
    )
    cluster.delete(WORKFLOW, name)
    assert f"ml/{name} no longer exists" in call("status", "digits-mlp", "--tracking-uri", uri).output


def test_status_without_a_cluster_says_so_and_the_rest(
    cluster: FakeCluster, file: str, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running(cluster, uri, file)
    monkeypatch.undo()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    done = call("status", "digits-mlp", "--tracking-uri", uri)
    assert done.exit_code == 0
    assert "unknown here: Kubernetes: found no cluster" in done.output
    assert "running" in done.output


def test_ctrl_c_leaves_the_experiment_running_and_says_so(cluster: FakeCluster, file: str, monkeypatch: Any) -> None:
    def interrupted(self: Following) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Following, "look", interrupted)
    done = call("submit", file, "--image", "x:1", "--watch")
    (name,) = cluster.names(WORKFLOW)
    assert done.exit_code == 130
    assert f"detached: {name} continues in the cluster" in done.output
    assert "shutdown" not in cluster.object(WORKFLOW, name)["spec"]


def test_resume_on_argo_creates_the_next_segment(cluster: FakeCluster, file: str, uri: str) -> None:
    ends(cluster, uri, Status.STOPPED)
    call("submit", file, "--image", "x:1")
    (name,) = cluster.names(WORKFLOW)
    store = Store(uri)
    record = store.keyed(name)
    assert record is not None
    done = call("resume", record.run_id, "--argo", "--max-trials", "20", "--timeout", "1h30m", "--tracking-uri", uri)
    assert done.exit_code == 0, done.output
    assert cluster.names(WORKFLOW) == [name, f"{name}-s1"]
    assert (store.control(record).max_trials, store.control(record).timeout) == (20, 5400)


def test_without_an_image_it_says_what_is_missing(cluster: FakeCluster, file: str) -> None:
    done = call("submit", file)
    assert "argo.image" in str(done.exception)
    assert cluster.names(WORKFLOW) == []
