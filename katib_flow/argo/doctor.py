"""Check that a namespace has everything that experiments need, and say how to fix what is missing.

The checks change nothing, except that the probe runs one small pod and deletes it. The page "On Argo" explains each
requirement; ``install`` has the manifests.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from katib_flow.argo import pods
from katib_flow.argo.cluster import CONFIG_MAP, POD, WORKFLOW, AlreadyExists, Cluster, ClusterError, Manifest, Missing
from katib_flow.argo.install import TEMPLATE, accounts
from katib_flow.argo.names import RESTRICTED
from katib_flow.errors import KatibFlowError

CONTROLLER = "workflow-controller"
OLDEST = (3, 7)  # the oldest tested version of Argo Workflows
DEPLOYMENT, SECRET = ("apps/v1", "Deployment"), ("v1", "Secret")
REVIEW = ("authorization.k8s.io/v1", "SelfSubjectAccessReview")
PROBE_SECONDS = 300.0
_ASKED = (
    ("create", "argoproj.io", "workflows", "submit an experiment"),
    ("get", "argoproj.io", "workflows", "watch an experiment"),
    ("list", "", "pods", "see why a Workflow waits"),
)
"""Rights that the commands need from the user's own account: verb, group, resource, purpose."""
_ASKS_MLFLOW = """\
import os, sys, urllib.error, urllib.request
uri = os.environ.get("MLFLOW_TRACKING_URI", "")
if not uri.startswith("http"):
    sys.exit(f"MLFLOW_TRACKING_URI: found {uri!r}, need the http address of an MLflow server")
try:
    urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=20).read()
except urllib.error.HTTPError as error:
    sys.exit(f"{uri} answers {error.code}: {error.read(200).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"{uri} does not answer: {error}")
print(f"{uri} answers")
"""


class Health(StrEnum):
    """The outcome of a check."""

    GOOD = "good"
    WRONG = "wrong"
    WARNING = "warning"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: the subject of the check.
        health: the outcome.
        says: the outcome in words.
        do: how to fix it; empty if nothing needs fixing.
    """

    what: str
    health: Health
    says: str
    do: str = ""


INSTALL = "kubectl apply -k workflow_templates/namespaced"


def examined(
    cluster: Cluster,
    controllers: Sequence[Cluster] = (),
    *,
    image: str = "",
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """Check everything that a namespace needs, and yield the findings one by one.

    Args:
        cluster: the namespace.
        controllers: the namespaces in which Argo's controller may run.
        image: image of the steps; if given, a pod with this image asks MLflow for its health.
        sleep: called with each pause in seconds while that pod runs.
    """
    pieces: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Argo Workflows", lambda: _argo(cluster)),
        ("Argo's controller", lambda: _controller(controllers)),
        ("your rights", lambda: _rights(cluster)),
        ("accounts", lambda: _accounts(cluster)),
        ("MLflow's address", lambda: _address(cluster)),
        ("WorkflowTemplate", lambda: _template(cluster)),
    ]
    if image:
        pieces.append(("MLflow from a pod", lambda: _probe(cluster, image, sleep)))
    for what, look in pieces:
        try:
            yield from look()
        except ClusterError as error:
            yield Finding(what, Health.UNKNOWN, str(error), _who_may(error))


def _who_may(error: ClusterError) -> str:
    return "ask somebody who has the right to read it" if error.status in (401, 403) else ""


def _argo(cluster: Cluster) -> Iterator[Finding]:
    try:
        cluster.find(WORKFLOW, {"katib-flow/doctor": "none"})
    except ClusterError as error:
        if "has no kind" not in str(error):
            raise
        yield Finding(
            "Argo Workflows", Health.WRONG, "it is not installed", "install it: https://argo-workflows.readthedocs.io"
        )
        return
    yield Finding("Argo Workflows", Health.GOOD, f"the cluster has Workflows; namespace {cluster.namespace}")


def _controller(controllers: Sequence[Cluster]) -> Iterator[Finding]:
    what = "Argo's controller"
    for namespace in controllers:
        try:
            deployment = namespace.get(DEPLOYMENT, CONTROLLER)
        except Missing:
            continue
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        yield _version(what, str(container.get("image", "")))
        yield _requeue(container)
        return
    where = " or ".join(namespace.namespace for namespace in controllers) or "any namespace"
    yield Finding(
        what, Health.UNKNOWN, f"no Deployment {CONTROLLER} in {where}", "state its namespace with --argo-namespace"
    )


def _version(what: str, image: str) -> Finding:
    match = re.search(r":v?(\d+)\.(\d+)", image)
    if match is None:
        return Finding(what, Health.UNKNOWN, f"the tag of {image} is not a version")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        need = ".".join(map(str, OLDEST))
        return Finding(what, Health.WARNING, f"version {match[1]}.{match[2]}", f"upgrade to {need}, the oldest tested")
    return Finding(what, Health.GOOD, f"version {match[1]}.{match[2]}")


def _requeue(container: Manifest) -> Finding:
    what = "requeue time"
    values = {entry["name"]: entry.get("value", "") for entry in container.get("env") or ()}
    stated = values.get("DEFAULT_REQUEUE_TIME", "")
    if stated:
        return Finding(what, Health.GOOD, f"DEFAULT_REQUEUE_TIME={stated}")
    do = f"to save 5 s a step: kubectl set env deployment/{CONTROLLER} DEFAULT_REQUEUE_TIME=1s"
    return Finding(what, Health.WARNING, "10 s, Argo's default: each step takes 10 s", do)


def _rights(cluster: Cluster) -> Iterator[Finding]:
    for verb, group, resource, purpose in _ASKED:
        attributes = {"namespace": cluster.namespace, "verb": verb, "group": group, "resource": resource}
        question = {"apiVersion": REVIEW[0], "kind": REVIEW[1], "metadata": {}}  # the cluster refuses metadata in it
        review = cluster.create({**question, "spec": {"resourceAttributes": attributes}})
        allowed = bool((review.get("status") or {}).get("allowed"))
        says = f"you may {verb} {resource}" if allowed else f"you may not {verb} {resource}, as needed to {purpose}"
        yield Finding(
            "your rights", Health.GOOD if allowed else Health.WRONG, says, "" if allowed else "ask for the right"
        )


def _accounts(cluster: Cluster) -> Iterator[Finding]:
    """Check that each account exists, has its token and has the rights of its Role."""
    wanted = [manifest for manifest in accounts() if manifest["kind"] != "Namespace"]
    for account in (manifest["metadata"]["name"] for manifest in wanted if manifest["kind"] == "ServiceAccount"):
        pieces = [manifest for manifest in wanted if manifest["metadata"]["name"].split(".")[0] == account]
        problems = [problem for manifest in pieces if (problem := _problem_of(cluster, manifest))]
        what = f"account {account}"
        if not problems:
            yield Finding(what, Health.GOOD, "exists and has its rights")
        elif account == pods.Accounts().watcher:
            do = f"{INSTALL}; only trials that are Kubernetes objects need it"
            yield Finding(what, Health.WARNING, "; ".join(problems), do)
        else:
            yield Finding(what, Health.WRONG, "; ".join(problems), INSTALL)


def _problem_of(cluster: Cluster, wanted: Manifest) -> str:
    """Say how an object falls short of its manifest; "" if it does not."""
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    try:
        existing = cluster.get((wanted["apiVersion"], kind), name)
    except Missing:
        return f"{kind} {name} is missing"
    if kind == "Role" and (rights := sorted(_rights_of(wanted) - _rights_of(existing))):
        return f"Role {name} lacks the rights {', '.join(rights[:5])}"
    return ""


def _rights_of(role: Manifest) -> set[str]:
    """Return the rights of a Role, each as "verb resource.group"."""
    return {
        f"{verb} {resource}{f'.{group}' if group else ''}"
        for rule in role.get("rules") or ()
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for verb in rule.get("verbs") or ()
    }


def _address(cluster: Cluster) -> Iterator[Finding]:
    what = "MLflow's address"
    try:
        data = cluster.get(CONFIG_MAP, pods.SETTINGS).get("data") or {}
    except Missing:
        data = {}
    if uri := data.get("MLFLOW_TRACKING_URI"):
        yield Finding(what, Health.GOOD, f"ConfigMap {pods.SETTINGS}: {uri}")
        return
    try:
        secret = cluster.get(SECRET, pods.SETTINGS)
    except Missing:
        do = f"{INSTALL}; or set tracking.uri in the specs"
        yield Finding(what, Health.WRONG, f"neither ConfigMap nor Secret {pods.SETTINGS} has MLFLOW_TRACKING_URI", do)
        return
    stated = "MLFLOW_TRACKING_URI" in (secret.get("data") or {})
    says = f"Secret {pods.SETTINGS} {'has' if stated else 'lacks'} MLFLOW_TRACKING_URI"
    yield Finding(what, Health.GOOD if stated else Health.WRONG, says, "" if stated else "add it to the Secret")


def _template(cluster: Cluster) -> Iterator[Finding]:
    what = f"WorkflowTemplate {TEMPLATE}"
    try:
        cluster.get((WORKFLOW[0], "WorkflowTemplate"), TEMPLATE)
    except Missing:
        do = f"{INSTALL}, to start experiments with argo submit --from"
        yield Finding(what, Health.WARNING, "is not installed; katib-flow submit does not need it", do)
        return
    yield Finding(what, Health.GOOD, "is installed")


def _probe(cluster: Cluster, image: str, sleep: Callable[[float], None]) -> Iterator[Finding]:
    """Run a pod with the steps' image that asks MLflow for its health."""
    what, name = "MLflow from a pod", f"katib-flow-doctor-{int(time.time())}"
    try:
        cluster.create(probe_pod(name, image))
    except AlreadyExists:
        yield Finding(what, Health.UNKNOWN, f"pod {name} already exists", "try again")
        return
    try:
        yield _ended(cluster, what, name, image, sleep)
    finally:
        try:
            cluster.delete(POD, name)
        except KatibFlowError as error:
            yield Finding(what, Health.WARNING, f"pod {name} was not deleted: {error}", f"kubectl delete pod {name}")


def _ended(cluster: Cluster, what: str, name: str, image: str, sleep: Callable[[float], None]) -> Finding:
    waited = 0.0
    while waited < PROBE_SECONDS:
        status: Manifest = cluster.get(POD, name).get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            lines = [line.partition(" ")[2] for line in cluster.log(name, None).splitlines()]
            says, good = " ".join(lines[-3:]), status["phase"] == "Succeeded"
            refused = "Host" in says and "403" in says
            do = (
                "add this host and port to MLflow's --allowed-hosts"
                if refused
                else "correct the address, or repair MLflow"
            )
            return Finding(what, Health.GOOD if good else Health.WRONG, says, "" if good else do)
        states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
        waiting = [state["waiting"] for state in states if "waiting" in state]
        if reason := next((state for state in waiting if "Image" in state.get("reason", "")), None):
            says = f"{image}: {reason['reason']}: {reason.get('message', '')}".rstrip(": ")
            do = "push the image to a registry from which the nodes can pull, or correct its name"
            return Finding("image", Health.WRONG, says, do)
        sleep(1.0)
        waited += 1.0
    return Finding(
        what, Health.UNKNOWN, f"pod {name} did not end within {PROBE_SECONDS:g} s", f"kubectl describe pod {name}"
    )


def probe_pod(name: str, image: str) -> Manifest:
    """Return a pod that asks MLflow for its health, with the settings of a step."""
    settings: list[dict[str, Any]] = [
        {"configMapRef": {"name": pods.SETTINGS, "optional": True}},
        {"secretRef": {"name": pods.SETTINGS, "optional": True}},
    ]
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", _ASKS_MLFLOW],
        "envFrom": settings,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": RESTRICTED,
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
