"""What waits in a Workflow, and why, as kubectl and argo would tell it."""

from typing import Any

import pytest

from katib_flow.argo.cluster import EVENT, POD, WORKFLOW, ClusterError, Manifest
from katib_flow.argo.waits import as_lines, waits
from katib_flow.testing.kubernetes import FakeCluster

IMAGE = "registry.example.com/katib-flow:9"
NOT_FOUND = f'failed to resolve reference "{IMAGE}": {IMAGE}: not found'
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
QUOTA = 'pods "run-trial-1" is forbidden: exceeded quota: compute, requested: cpu=2, used: cpu=8, limited: cpu=8'
PRIVILEGED = 'pods "run-suggest-1" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation'


def node(name: str, phase: str = "Pending", message: str = "", *, kind: str = "Pod", **inputs: str) -> Manifest:
    template = "trial" if "id" in inputs else name.split("(")[0].split(".")[-1]
    parameters = [{"name": key, "value": value} for key, value in inputs.items()]
    return {
        "id": name, "name": name, "type": kind, "templateName": template, "phase": phase, "message": message,
        "startedAt": "2026-11-28T09:00:00Z", "inputs": {"parameters": parameters},
    }  # fmt: skip


def cluster_with(*nodes: Manifest, spec: Manifest | None = None, **status: Any) -> FakeCluster:
    cluster = FakeCluster(namespace="ml")
    metadata = {"name": "run"}
    cluster.create({"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": metadata, "spec": spec or {}})
    status = {"phase": "Running", **status} | ({"nodes": {each["id"]: each for each in nodes}} if nodes else {})
    cluster.set_status(WORKFLOW, "run", **status)
    return cluster


def pod(cluster: FakeCluster, of: str, **status: Any) -> None:
    metadata = {
        "name": f"pod-{of.replace('(', '-').replace(')', '')}",
        "labels": {"workflows.argoproj.io/workflow": "run"},
        "annotations": {"workflows.argoproj.io/node-name": of},
    }
    containers = {
        "initContainers": [{"name": "prepare", "image": IMAGE}],
        "containers": [{"name": "main", "image": IMAGE}],
    }
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": containers})
    cluster.set_status(POD, metadata["name"], phase="Pending", **status)


def waiting(reason: str, message: str = "", *, name: str = "main") -> Manifest:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


def lines(cluster: FakeCluster) -> list[str]:
    return as_lines(waits(cluster, cluster.get(WORKFLOW, "run")))


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            {"containerStatuses": [waiting("ErrImagePull", NOT_FOUND)]},
            f"suggest waits: the image {IMAGE} cannot be pulled: {NOT_FOUND} (ErrImagePull)",
        ),
        (
            {
                "initContainerStatuses": [waiting("ImagePullBackOff", name="prepare")],
                "containerStatuses": [waiting("PodInitializing")],
            },
            f"suggest waits: the image {IMAGE} cannot be pulled: ImagePullBackOff (ImagePullBackOff)",
        ),
        (
            {"containerStatuses": [waiting("CreateContainerConfigError", 'configmap "katib-flow" not found')]},
            'suggest waits: CreateContainerConfigError: configmap "katib-flow" not found',
        ),
        (
            {"conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_GPU}
            ]},
            f"suggest waits: Unschedulable: {NO_GPU}",
        ),
        ({"containerStatuses": [waiting("ContainerCreating")]}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_start_is_told_with_its_own_words(status: Manifest, line: str | None) -> None:
    cluster = cluster_with(node("run.suggest(0)"))
    pod(cluster, "run.suggest(0)", **status)
    assert lines(cluster) == ([line] if line else [])


def test_a_volume_that_cannot_be_mounted_is_told_by_the_pods_last_warning() -> None:
    cluster = cluster_with(node("run.suggest(0)"))
    pod(cluster, "run.suggest(0)", containerStatuses=[waiting("ContainerCreating")])
    for number, message in enumerate(["too old", 'MountVolume.SetUp failed: secret "kf-executor.token" not found']):
        event = {"metadata": {"name": f"e{number}"}, "involvedObject": {"name": "pod-run.suggest-0"}}
        event |= {"type": "Warning", "reason": "FailedMount", "message": message, "lastTimestamp": str(number)}
        cluster.create({"apiVersion": EVENT[0], "kind": EVENT[1], **event})
    assert lines(cluster) == [
        'suggest waits: FailedMount: MountVolume.SetUp failed: secret "kf-executor.token" not found'
    ]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (QUOTA, f"trial t00001 waits: {QUOTA}"),
        (
            f'ImagePullBackOff: Back-off pulling image "{IMAGE}"',
            f'trial t00001 waits: the image {IMAGE} cannot be pulled: Back-off pulling image "{IMAGE}" '
            "(ImagePullBackOff)",
        ),
        ("PodInitializing", None),
    ],
)
def test_where_there_is_no_pod_to_look_at_argo_tells(message: str, line: str | None) -> None:
    cluster = cluster_with(node("run.trial(0)", message=message, id="t00001"))
    assert lines(cluster) == ([line] if line else [])
    cluster.refusals += [ClusterError("list Pod: the cluster answers 403 Forbidden", 403)]
    assert as_lines(waits(cluster, cluster.object(WORKFLOW, "run"))) == ([line] if line else [])


def test_a_pod_that_is_refused_is_told_while_its_step_is_tried_again() -> None:
    tries = [node("run.suggest(0)", "Error", PRIVILEGED), node("run.suggest(1)", "Error", PRIVILEGED)]
    cluster = cluster_with(node("run.suggest", "Running", kind="Retry"), *tries)
    assert lines(cluster) == [f"suggest waits: attempt 2 failed and is retried: {PRIVILEGED}"]
    ended = cluster_with(node("run.suggest", "Succeeded", kind="Retry"), *tries, node("run.suggest(2)", "Succeeded"))
    assert lines(ended) == []


def test_steps_that_wait_for_the_same_are_one_line() -> None:
    cluster = cluster_with(*(node(f"run.t{n}(0)", message=f"Unschedulable: {NO_GPU}", id=f"t{n}") for n in range(5)))
    assert lines(cluster) == [f"trial t0, trial t1 and 3 more wait: Unschedulable: {NO_GPU}"]


def test_a_workflow_that_nobody_has_begun_with_or_that_is_suspended_is_told() -> None:
    assert lines(cluster_with(phase="")) == ["the Workflow waits: Argo's controller has not started it"]
    suspended = cluster_with(node("run.suggest(0)", "Succeeded"), spec={"suspend": True})
    assert lines(suspended) == ["the Workflow waits: it is suspended; resume it with: argo resume run"]
    assert lines(cluster_with(node("run.suggest(0)", "Running"))) == []
