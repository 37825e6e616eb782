"""The namespace in memory, and the real client against it over HTTP: one behaviour."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import reached

from katib_flow.argo.cluster import (
    EVENT,
    POD,
    WORKFLOW,
    AlreadyExists,
    Cluster,
    ClusterError,
    KubernetesCluster,
    Missing,
)
from katib_flow.errors import KatibFlowError
from katib_flow.testing.kubernetes import FakeCluster, owner_reference


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster(namespace="ml")


@pytest.fixture(params=["in memory", "over HTTP"])
def cluster(request: Any, fake: FakeCluster, tmp_path: Path) -> Iterator[Cluster]:
    if request.param == "in memory":
        yield fake
        return
    with reached(fake, tmp_path) as client:
        yield client


def workflow(name: str = "one", **labels: str) -> dict[str, Any]:
    spec = {"arguments": {"parameters": [{"name": "x", "value": "1"}]}}
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {"name": name, "labels": labels}, "spec": spec}


def test_what_is_created_can_be_read_found_changed_and_deleted(cluster: Cluster) -> None:
    made = cluster.create(workflow(run="a"))
    cluster.create(workflow("two", run="b"))
    assert (made["metadata"]["name"], bool(made["metadata"]["uid"])) == ("one", True)
    assert cluster.get(WORKFLOW, "one")["spec"] == workflow()["spec"]
    assert [each["metadata"]["name"] for each in cluster.find(WORKFLOW, {"run": "b"})] == ["two"]
    assert cluster.patch(WORKFLOW, "one", {"spec": {"shutdown": "Stop"}})["spec"]["shutdown"] == "Stop"
    for _ in range(2):
        cluster.delete(WORKFLOW, "one")
    with pytest.raises(Missing):
        cluster.get(WORKFLOW, "one")
    assert cluster.namespace == "ml"


def test_objects_are_found_by_their_fields_as_well(cluster: Cluster, fake: FakeCluster) -> None:
    for name, of in (("a", "pod-1"), ("b", "pod-2")):
        event = {"apiVersion": EVENT[0], "kind": EVENT[1], "metadata": {"name": name}, "type": "Warning"}
        fake.create(event | {"involvedObject": {"name": of}})
    found = cluster.find(EVENT, {}, {"involvedObject.name": "pod-2", "type": "Warning"})
    assert [each["metadata"]["name"] for each in found] == ["b"]


def test_a_name_is_taken_once(cluster: Cluster) -> None:
    cluster.create(workflow())
    with pytest.raises(AlreadyExists):
        cluster.create(workflow())


def test_a_generated_name_comes_back(cluster: Cluster) -> None:
    manifest = workflow()
    manifest["metadata"] = {"generateName": "many-"}
    names = {cluster.create(manifest)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("many-") for name in names)


def test_a_pods_log_is_its_lines_with_their_times(cluster: Cluster, fake: FakeCluster) -> None:
    fake.add_pod("p")
    assert cluster.log("p", "main") == ""
    fake.print_("p", "one\ntwo = 2")
    assert [line.split(" ", 1)[1] for line in cluster.log("p", "main").splitlines()] == ["one", "two = 2"]
    fake.clock = lambda: 1_700_000_060.0
    fake.print_("p", "three")
    assert cluster.log("p", "main", 30) == "2023-11-14T22:14:20.000000Z three\n"
    with pytest.raises(Missing):
        cluster.log("q", "main")


@pytest.mark.parametrize(("status", "transient"), [(503, True), (429, True), (403, False)])
def test_a_refusal_says_what_was_asked_and_whether_to_ask_again(
    cluster: Cluster, fake: FakeCluster, status: int, transient: bool
) -> None:
    fake.refusals += [ClusterError(f"get Workflow one: the cluster answers {status}", status)] * 9
    with pytest.raises(ClusterError, match=f"get Workflow one: the cluster answers {status}") as caught:
        cluster.get(WORKFLOW, "one")
    assert caught.value.transient is transient


def test_an_unknown_kind_is_told_as_such(fake: FakeCluster, cluster: Cluster) -> None:
    if cluster is fake:
        return
    with pytest.raises(ClusterError, match=r"get PyTorchJob x: the cluster has no kind PyTorchJob of kubeflow.org/v1"):
        cluster.get(("kubeflow.org/v1", "PyTorchJob"), "x")


def test_changes_are_told_as_they_happen_and_go_on_from_a_version(cluster: Cluster, fake: FakeCluster) -> None:
    fake.create(workflow())
    changes = cluster.changes(WORKFLOW, {}, "one")
    now = next(changes)
    fake.create(workflow("two"))  # of another
    fake.set_status(WORKFLOW, "one", phase="Running")
    changed = next(changes)
    assert now != changed
    fake.delete(WORKFLOW, "one")
    deleted = next(changes)
    assert next(cluster.changes(WORKFLOW, {}, "one", changed)) == deleted


def test_changes_that_are_forgotten_are_told_as_such(cluster: Cluster, fake: FakeCluster) -> None:
    before = next(cluster.changes(WORKFLOW, {}))
    fake.forget_changes()
    with pytest.raises(ClusterError) as caught:
        list(cluster.changes(WORKFLOW, {}, "", before, seconds=1))
    assert (caught.value.status, caught.value.transient) == (410, False)


def test_what_an_object_owns_goes_with_it(fake: FakeCluster) -> None:
    fake.add_pod("p", owner=fake.create(workflow()))
    assert fake.object(POD, "p")["metadata"]["ownerReferences"] == [owner_reference(fake.object(WORKFLOW, "one"))]
    fake.delete(WORKFLOW, "one")
    assert fake.names(POD) == []


def test_outside_of_a_pod_it_says_so(monkeypatch: Any) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(
        KatibFlowError, match=r"Kubernetes: found no cluster .* need a pod with a service account's token"
    ):
        KubernetesCluster("ml")
