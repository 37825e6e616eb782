"""An experiment that is watched while the cluster's API, or MLflow, is away; over real connections."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import Server
from test_waits import IMAGE, NOT_FOUND, node, pod, waiting

from katib_flow.argo.cluster import WORKFLOW, ClusterError, KubernetesCluster
from katib_flow.argo.submit import AWAY_SECONDS, Following
from katib_flow.errors import TrackingError
from katib_flow.testing.kubernetes import FakeCluster
from katib_flow.tracking import Status


class Watched:
    """A Workflow that is watched, in steps that a test gives."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = FakeCluster(namespace="ml")
        self.cluster.create({"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {"name": "run"}, "spec": {}})
        self.cluster.set_status(WORKFLOW, "run", phase="Running")
        self.server = Server(self.cluster)
        self.said: list[str] = []
        self.slept = 0.0
        config = tmp_path / "kubeconfig"
        context = {"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "ml"}}
        config.write_text(yaml.safe_dump({
            "current-context": "x", "contexts": [context],
            "clusters": [{"name": "x", "cluster": {"server": self.server.address}}],
            "users": [{"name": "x", "user": {}}],
        }))  # fmt: skip
        monkeypatch.setenv("KUBECONFIG", str(config))
        monkeypatch.setenv("TMPDIR", str(tmp_path))

    def ended(self) -> None:
        self.cluster.set_status(WORKFLOW, "run", phase="Succeeded")

    def watch(self, *then: Callable[[], None], **fields: Any) -> Status:
        """Watch to the end; what is to happen happens in the pauses, one a pause."""
        events = list(then)

        def sleep(seconds: float) -> None:
            self.slept += seconds
            if events:
                events.pop(0)()

        cluster = KubernetesCluster(in_pod=False)
        return Following(cluster, "run", say=self.said.append, sleep=sleep, **fields).wait()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Watched(tmp_path, monkeypatch)
    made.server.start()
    yield made
    made.server.stop()


def nothing() -> None: ...


def test_an_api_server_that_is_away_is_waited_for_and_told_once(watched: Watched) -> None:
    status = watched.watch(watched.server.stop, nothing, nothing, nothing, watched.server.start, watched.ended)
    assert status is Status.SUCCEEDED
    (away, back) = watched.said
    assert "get Workflow run: the cluster does not answer" in away
    assert "retrying for up to 10 minutes while run continues" in away
    assert back == "the cluster and MLflow answer again"


def test_an_api_server_that_answers_with_errors_is_waited_for_too(watched: Watched) -> None:
    def ill() -> None:
        watched.cluster.refusals += [ClusterError("not now", status) for status in (500, 503, 429)] * 2

    assert watched.watch(ill, nothing, nothing, nothing, nothing, nothing, nothing, watched.ended) is Status.SUCCEEDED
    assert [line.partition(";")[0] for line in watched.said] == [
        "get Workflow run: the cluster answers 500 Internal Server Error", "the cluster and MLflow answer again",
    ]  # fmt: skip


def test_the_second_outage_is_told_like_the_first(watched: Watched) -> None:
    stop, start = watched.server.stop, watched.server.start
    watched.watch(stop, start, nothing, stop, start, nothing, watched.ended)
    assert [line == "the cluster and MLflow answer again" for line in watched.said] == [False, True, False, True]


def test_after_ten_minutes_it_gives_up(watched: Watched) -> None:
    with pytest.raises(ClusterError, match="the cluster does not answer"):
        watched.watch(watched.server.stop)
    assert AWAY_SECONDS <= watched.slept < AWAY_SECONDS + 60
    assert len(watched.said) == 1


def test_what_the_cluster_refuses_is_an_error_at_once(watched: Watched) -> None:
    watched.cluster.refusals += [ClusterError("forbidden", 403)]
    with pytest.raises(ClusterError, match="403"):
        watched.watch()
    assert watched.slept == 0


def test_mlflow_away_is_waited_for_as_well(watched: Watched) -> None:
    class Away:
        answers = iter([None, TrackingError("MLflow at http://mlflow:5000 does not answer"), None, None])

        def keyed(self, key: str) -> None:
            if (answer := next(self.answers)) is not None:
                raise answer

    assert watched.watch(nothing, nothing, watched.ended, store=Away()) is Status.SUCCEEDED
    assert [line.partition(";")[0] for line in watched.said] == [
        "MLflow at http://mlflow:5000 does not answer", "the cluster and MLflow answer again",
    ]  # fmt: skip


def test_what_waits_is_told_once_and_when_it_goes_on(watched: Watched) -> None:
    def backs_off() -> None:  # the kubelet says it one way and the other by turns
        reason = "ErrImagePull" if watched.slept % 10 else "ImagePullBackOff"
        status = [waiting(reason, NOT_FOUND)]
        watched.cluster.set_status(("v1", "Pod"), "pod-run.suggest-0", phase="Pending", containerStatuses=status)

    def waits() -> None:
        nodes = {"a": node("run.suggest(0)")}
        watched.cluster.set_status(WORKFLOW, "run", phase="Running", nodes=nodes)
        pod(watched.cluster, "run.suggest(0)")
        backs_off()

    def goes_on() -> None:
        watched.cluster.set_status(WORKFLOW, "run", phase="Running", nodes={"a": node("run.suggest(0)", "Running")})

    watched.watch(waits, backs_off, backs_off, backs_off, goes_on, watched.ended)
    (told, over) = watched.said
    assert told.startswith(f"suggest waits: the image {IMAGE} cannot be pulled: {NOT_FOUND} (")
    assert over == "nothing is waiting any more"


def test_a_workflow_that_fails_before_mlflow_hears_of_it_says_why(watched: Watched) -> None:
    refused = 'pods "run-suggest-1" is forbidden: violates PodSecurity "restricted:latest"'
    nodes = {"a": node("run.suggest(0)", "Error", refused) | {"finishedAt": "2026-11-28T09:00:03Z"}}
    watched.cluster.set_status(WORKFLOW, "run", phase="Failed", message="No more retries left", nodes=nodes)
    following = Following(watched.cluster, "run")
    assert following.wait() is Status.FAILED
    assert following.reason == f"the workflow failed: suggest: {refused}"
    assert json.dumps(following.reason).isascii()
