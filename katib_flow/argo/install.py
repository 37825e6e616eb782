"""The manifests that a platform team installs once with ``kubectl apply -k``. `make templates` writes them.

python -m katib_flow.argo.install workflow_templates
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hera.workflows import ClusterWorkflowTemplate, Parameter, WorkflowTemplate

from katib_flow.argo import pods
from katib_flow.argo.embed import RUN_EXPERIMENT, TEMPLATE, run_experiment_template
from katib_flow.argo.manifest import write_yaml
from katib_flow.argo.names import LIMITS, RESTRICTED, USER

Manifest = dict[str, Any]
_HEADER = "# Written by `make templates`; edit katib_flow/argo/install.py.\n"
_RBAC = "rbac.authorization.k8s.io"
_RESULTS = {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
_SUBMITS = {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["create", "get"]}
_READS = {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get"]}
_OBJECTS = ["create", "delete", "get", "list", "watch"]
NAMESPACE = "katib-flow"
"""To install elsewhere, write a kustomization with ``namespace:``, which also changes the subjects of the bindings."""
WATCHED = {
    "argoproj.io": ["workflows"],
    "batch": ["jobs"],
    "kubeflow.org": ["mpijobs", "paddlejobs", "pytorchjobs", "tfjobs", "xgboostjobs"],
    "trainer.kubeflow.org": ["trainjobs"],
    "ray.io": ["rayjobs"],
    "jobset.x-k8s.io": ["jobsets"],
}
DATABASE_CONNECTIONS = 40
"""Database connections per process of the MLflow server, in addition to SQLAlchemy's overflow of 10: one for each of
the 40 requests that it serves at a time. With the default of 15, requests that need two connections can deadlock."""
MLFLOW_IMAGE = "ghcr.io/mlflow/mlflow:v3.17.2"


def files() -> dict[str, str]:
    """Return the text of every file, keyed by path."""
    namespaced = {
        "accounts.yaml": accounts(),
        "settings.yaml": settings(),
        "katib-flow.yaml": [workflow_template(WorkflowTemplate)],
    }
    return {
        **_folder("namespaced", namespaced, "Accounts, settings and the template katib-flow, for one namespace."),
        **_folder(
            "cluster-wide",
            {"katib-flow.yaml": [workflow_template(ClusterWorkflowTemplate)]},
            "The template katib-flow for all namespaces; each namespace still needs the accounts and settings.",
        ),
        **_folder("mlflow", {"mlflow.yaml": mlflow()}, "An MLflow server for a trial installation; see docs/argo.md."),
    }


def _folder(name: str, manifests: Mapping[str, Sequence[Manifest]], about: str) -> dict[str, str]:
    kustomization: Manifest = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **({} if name == "cluster-wide" else {"namespace": NAMESPACE}),
        "resources": list(manifests),
    }
    texts = {file: _HEADER + "---\n".join(map(write_yaml, objects)) for file, objects in manifests.items()}
    texts = {"kustomization.yaml": f"{_HEADER}# {about}\n{write_yaml(kustomization)}", **texts}
    return {f"{name}/{file}": text for file, text in texts.items()}


def accounts() -> list[Manifest]:
    """Return the namespace and five service accounts with the least rights; all but the trials' have a token."""
    names = pods.Accounts()
    reads_pods = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    watches = [{"apiGroups": [group], "resources": kinds, "verbs": _OBJECTS} for group, kinds in WATCHED.items()]
    locked = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": locked}},
        {**_named("v1", "ServiceAccount", names.trial), "automountServiceAccountToken": False},
        *_account(names.executor, [_RESULTS]),
        *_account(names.submitter, [_RESULTS, _SUBMITS]),
        *_account(names.watcher, [_RESULTS, *watches, *reads_pods]),
        *_account(names.reader, [_RESULTS, _READS]),
    ]


def _account(name: str, rules: Sequence[Manifest]) -> list[Manifest]:
    token = _named("v1", "Secret", f"{name}.service-account-token")
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": name}
    token["type"] = "kubernetes.io/service-account-token"
    return [_named("v1", "ServiceAccount", name), token, *_role(name, rules, name)]


def _role(name: str, rules: Sequence[Manifest], account: str) -> list[Manifest]:
    bound = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    return [
        {**_named(f"{_RBAC}/v1", "Role", name), "rules": list(rules)},
        {**_named(f"{_RBAC}/v1", "RoleBinding", name), "roleRef": bound, "subjects": subjects},
    ]


def settings() -> list[Manifest]:
    """Return the ConfigMaps of MLflow's address and of the semaphores that limit the trials running at a time."""
    return [
        {**_named("v1", "ConfigMap", pods.SETTINGS), "data": {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}},
        {**_named("v1", "ConfigMap", LIMITS), "data": {"trials": "10", "gpu-trials": "4"}},
    ]


def workflow_template(kind: type[WorkflowTemplate] | type[ClusterWorkflowTemplate]) -> Manifest:
    """Return the template for ``argo submit --from workflowtemplate/katib-flow`` and for templateRefs."""
    template = kind(
        api_version="argoproj.io/v1alpha1",
        kind=kind.__name__,
        name=TEMPLATE,
        entrypoint=RUN_EXPERIMENT,
        arguments=[Parameter(name="spec", description="a spec, or a Katib manifest, as YAML or JSON")],
        service_account_name=pods.Accounts().submitter,
        templates=[run_experiment_template()],
    )
    manifest: Manifest = template.to_dict()
    if kind is WorkflowTemplate:
        manifest["metadata"]["namespace"] = NAMESPACE
    return manifest


def mlflow() -> list[Manifest]:
    """Return an MLflow server with SQLite on a volume; the Secret ``mlflow`` may name PostgreSQL and object storage."""
    hosts = ["mlflow", "mlflow:5000", "localhost:5000"]
    hosts += [
        f"mlflow.$(NAMESPACE){domain}{port}" for domain in ("", ".svc", ".svc.cluster.local") for port in ("", ":5000")
    ]
    container = {
        "name": "mlflow",
        "image": MLFLOW_IMAGE,
        "command": ["mlflow", "server"],
        "args": [
            *("--host", "0.0.0.0", "--port", "5000", "--allowed-hosts", ",".join(hosts)),  # noqa: S104 - in a pod
            *("--backend-store-uri", "$(BACKEND_STORE_URI)", "--artifacts-destination", "$(ARTIFACTS_DESTINATION)"),
        ],
        "env": [
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "HOME", "value": pods.TEMPORARY},
        ],
        "envFrom": [{"configMapRef": {"name": "mlflow"}}, {"secretRef": {"name": "mlflow", "optional": True}}],
        "ports": [{"name": "http", "containerPort": 5000}],
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": "http", "httpHeaders": [{"name": "Host", "value": "localhost"}]}
        },
        "resources": {"requests": {"cpu": "200m", "memory": "1Gi"}},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": pods.TEMPORARY}],
    }
    labels = {"app": "mlflow"}
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"fsGroup": USER},
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "mlflow"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    stores = {
        "BACKEND_STORE_URI": "sqlite:////data/mlflow.db",
        "ARTIFACTS_DESTINATION": "/data/artifacts",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(DATABASE_CONNECTIONS),
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    deployment = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},  # two servers must not share the SQLite file
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return [
        {**_named("v1", "ConfigMap", "mlflow"), "data": stores},
        {**_named("v1", "PersistentVolumeClaim", "mlflow"), "spec": claim},
        {
            **_named("v1", "Service", "mlflow"),
            "spec": {"selector": labels, "ports": [{"port": 5000, "targetPort": "http"}]},
        },
        {**_named("apps/v1", "Deployment", "mlflow"), "spec": deployment},
    ]


def _named(api_version: str, kind: str, name: str) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}


def write(folder: Path) -> None:
    """Write all files below a folder."""
    for name, text in files().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
