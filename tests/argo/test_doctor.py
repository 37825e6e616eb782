"""`katib-flow doctor`: what is said of a namespace that has everything, and of one that lacks a piece."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hera.workflows import WorkflowTemplate

from katib_flow.argo.cluster import ClusterError, Manifest
from katib_flow.argo.doctor import REVIEW, Finding, Health, examined, probe_pod
from katib_flow.argo.install import accounts, settings, workflow_template
from katib_flow.argo.names import RESTRICTED
from katib_flow.testing.kubernetes import FakeCluster

CONTROLLER = {
    "image": "quay.io/argoproj/workflow-controller:v4.1.2",
    "env": [{"name": "DEFAULT_REQUEUE_TIME", "value": "1s"}],
}


@dataclass
class Reviewing(FakeCluster):
    """A cluster that also says what who asks may do: everything but some verbs."""

    forbidden: set[str] = field(default_factory=set[str])

    def create(self, manifest: Manifest) -> Manifest:
        if (manifest["apiVersion"], manifest["kind"]) != REVIEW:
            return super().create(manifest)
        assert manifest["metadata"] == {}  # the cluster refuses any
        attributes = manifest["spec"]["resourceAttributes"]
        return {"status": {"allowed": f"{attributes['verb']} {attributes['resource']}" not in self.forbidden}}


def deployment(container: Manifest) -> Manifest:
    pod = {"spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "workflow-controller"},
        "spec": {"template": pod},
    }


def argo(container: Manifest = CONTROLLER) -> FakeCluster:
    cluster = FakeCluster(namespace="argo")
    cluster.create(deployment(container))
    return cluster


def installed(leave_out: Callable[[Manifest], bool] = lambda _: False) -> Reviewing:
    cluster = Reviewing(namespace="ml")
    for manifest in [*accounts(), *settings(), workflow_template(WorkflowTemplate)]:
        if manifest["kind"] != "Namespace" and not leave_out(manifest):
            cluster.create(manifest)
    return cluster


def wrong(findings: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.health is not Health.GOOD]


def test_nothing_is_wrong_where_everything_is_installed() -> None:
    findings = list(examined(installed(), [argo()]))
    assert wrong(iter(findings)) == []
    assert not any(finding.do for finding in findings)
    assert "ConfigMap katib-flow: http://mlflow:5000" in [finding.says for finding in findings]


@pytest.mark.parametrize(
    ("kind", "name", "what", "says"),
    [
        ("ServiceAccount", "kf-trial", "account kf-trial", "ServiceAccount kf-trial is missing"),
        (
            "Secret",
            "kf-reader.service-account-token",
            "account kf-reader",
            "Secret kf-reader.service-account-token is missing",
        ),
        ("RoleBinding", "kf-submitter", "account kf-submitter", "RoleBinding kf-submitter is missing"),
    ],
)
def test_a_piece_of_an_account_that_is_missing_is_named(kind: str, name: str, what: str, says: str) -> None:
    cluster = installed(lambda manifest: (manifest["kind"], manifest["metadata"]["name"]) == (kind, name))
    (finding,) = wrong(examined(cluster, [argo()]))
    assert (finding.what, finding.health, finding.says) == (what, Health.WRONG, says)
    assert finding.do == "kubectl apply -k workflow_templates/namespaced"


def test_the_account_that_only_objects_need_is_a_warning() -> None:
    cluster = installed(lambda manifest: manifest["metadata"]["name"] == "kf-watcher")
    (finding,) = wrong(examined(cluster, [argo()]))
    assert finding.health is Health.WARNING
    assert "only trials that are Kubernetes objects need it" in finding.do


def test_a_right_that_a_role_lacks_is_named() -> None:
    cluster = installed()
    role = cluster.get(("rbac.authorization.k8s.io/v1", "Role"), "kf-submitter")
    rules = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]} for rule in role["rules"]]
    cluster.patch(("rbac.authorization.k8s.io/v1", "Role"), "kf-submitter", {"rules": rules})
    (finding,) = wrong(examined(cluster, [argo()]))
    assert "Role kf-submitter lacks the rights create workflows.argoproj.io" in finding.says


def test_where_mlflow_is_has_to_be_stated() -> None:
    cluster = installed(
        lambda manifest: manifest["metadata"]["name"] == "katib-flow" and manifest["kind"] == "ConfigMap"
    )
    (finding,) = wrong(examined(cluster, [argo()]))
    assert (finding.health, finding.says) == (
        Health.WRONG,
        "neither ConfigMap nor Secret katib-flow has MLFLOW_TRACKING_URI",
    )
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "katib-flow"},
            "data": {"MLFLOW_TRACKING_URI": "eA=="},
        }
    )
    assert wrong(examined(cluster, [argo()])) == []


@pytest.mark.parametrize(
    ("container", "health", "says"),
    [
        ({**CONTROLLER, "image": "argo/workflow-controller:v3.4.8"}, Health.WARNING, "version 3.4"),
        ({**CONTROLLER, "image": "argo/workflow-controller:latest"}, Health.UNKNOWN, "is not a version"),
        ({"image": CONTROLLER["image"]}, Health.WARNING, "10 s, Argo's default"),
    ],
)
def test_an_old_controller_and_a_slow_one_are_said(container: Manifest, health: Health, says: str) -> None:
    (finding,) = wrong(examined(installed(), [argo(container)]))
    assert finding.health is health
    assert says in finding.says


def test_a_controller_that_is_not_there_is_not_known() -> None:
    (finding,) = wrong(examined(installed(), [FakeCluster(namespace="argo"), FakeCluster(namespace="ml")]))
    assert finding.says == "no Deployment workflow-controller in argo or ml"
    assert "--argo-namespace" in finding.do


def test_the_rights_of_who_asks_are_said() -> None:
    cluster = installed()
    cluster.forbidden = {"create workflows"}
    (finding,) = wrong(examined(cluster, [argo()]))
    assert (finding.health, finding.says) == (
        Health.WRONG,
        "you may not create workflows, as needed to submit an experiment",
    )


def test_a_cluster_without_argo_is_said() -> None:
    cluster = installed()
    cluster.refusals.append(
        ClusterError("list Workflow: the cluster has no kind Workflow of argoproj.io/v1alpha1; is it installed?")
    )
    (finding,) = wrong(examined(cluster, [argo()]))
    assert (finding.health, finding.says) == (Health.WRONG, "it is not installed")


def test_a_piece_that_may_not_be_read_is_unknown_and_the_rest_is_looked_at() -> None:
    cluster = installed()
    cluster.refusals.append(ClusterError("list Workflow: the cluster answers 403 Forbidden", 403))
    (finding,) = wrong(examined(cluster, [argo()]))
    assert (finding.what, finding.health) == ("Argo Workflows", Health.UNKNOWN)
    assert finding.do == "ask somebody who has the right to read it"


def probed(states: list[Manifest], log: str = "") -> tuple[list[Finding], Reviewing]:
    """The findings where the probe's pod has some states, one after the other."""
    cluster, rest = installed(), iter([*states, *states[-1:] * 400])

    def created(manifest: Manifest) -> None:
        if manifest["kind"] == "Pod":
            assert manifest["spec"]["containers"][0]["securityContext"] == RESTRICTED
            assert manifest["spec"]["automountServiceAccountToken"] is False
            cluster.print_(manifest["metadata"]["name"], log)
            cluster.statuses["v1", "Pod"] = lambda _: next(rest)

    cluster.on_create.append(created)
    return wrong(examined(cluster, [argo()], image="steps:1", sleep=lambda _: None)), cluster


def test_the_probe_says_what_a_pod_sees_and_is_deleted() -> None:
    findings, cluster = probed(
        [{"phase": "Pending"}, {"phase": "Running"}, {"phase": "Succeeded"}], "http://mlflow:5000 answers\n"
    )
    assert findings == []
    assert cluster.find(("v1", "Pod"), {}) == []


def test_a_host_that_mlflow_refuses_is_said_with_the_option() -> None:
    ((finding,), cluster) = probed([{"phase": "Failed"}], "http://mlflow:5000 answers 403: Invalid Host header\n")
    assert (finding.health, finding.says) == (Health.WRONG, "http://mlflow:5000 answers 403: Invalid Host header")
    assert "--allowed-hosts" in finding.do
    assert cluster.find(("v1", "Pod"), {}) == []


def test_an_image_that_cannot_be_pulled_is_said() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    ((finding,), _) = probed([{"phase": "Pending", "containerStatuses": [waiting]}])
    assert (finding.what, finding.says) == ("image", "steps:1: ImagePullBackOff: not found")


def test_a_pod_that_does_not_end_is_given_up_on() -> None:
    ((finding,), cluster) = probed([{"phase": "Pending"}])
    assert finding.health is Health.UNKNOWN
    assert cluster.find(("v1", "Pod"), {}) == []


@pytest.mark.parametrize(
    ("status", "code", "says"), [(200, 0, "answers"), (403, 1, "answers 403: Invalid Host header")]
)
def test_what_the_probe_runs_asks_for_mlflows_health(status: int, code: int, says: str) -> None:
    paths: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"Invalid Host header")

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        done = run_probe(uri)
        server.shutdown()
    assert (done.returncode, paths) == (code, ["/health"])
    assert f"{uri} {says}" in done.stdout + done.stderr


def test_what_the_probe_runs_says_where_nobody_answers_and_what_is_no_address() -> None:
    nobody, none = run_probe("http://127.0.0.1:9"), run_probe("sqlite:///x.db")
    assert (nobody.returncode, none.returncode) == (1, 1)
    assert "does not answer" in nobody.stderr
    assert "need the http address" in none.stderr


def run_probe(uri: str) -> "subprocess.CompletedProcess[str]":
    command = probe_pod("x", "y")["spec"]["containers"][0]["command"]
    return subprocess.run(
        [sys.executable, *command[1:]], env={"MLFLOW_TRACKING_URI": uri}, capture_output=True, text=True
    )
