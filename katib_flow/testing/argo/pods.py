"""Pods: the manifests that Argo would give to Kubernetes, and their states.

Argo adds a container ``init``, which brings its executable, and a container ``wait``, which reads the output files once
main has ended; both have the executor's token. ``podSpecPatch`` is merged last, with containers matched by name.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from katib_flow.testing.argo.nodes import Node, Phase, node_id
from katib_flow.testing.argo.refusal import Rejected, Unsupported
from katib_flow.testing.argo.substitution import substitute
from katib_flow.testing.argo.workflow import Manifest, Workflow, text

EXECUTOR_IMAGE = "quay.io/argoproj/argoexec"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where a token would be, not one
_INHERITED = (
    *("securityContext", "nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"),
    "hostAliases",
)


@dataclass
class Pod:
    """One pod.

    Attributes:
        node, workflow, template: the names of its node, its Workflow and its template.
        inputs: the input parameters of its node.
        manifest: metadata and spec, as Kubernetes would get them.
        declared_outputs: the template's output parameters.
        on_exit: whether it belongs to the exit handler.
        created, began, ended: seconds on the cluster's clock; ``began`` is the start of main.
        phase, message, exit_code, outputs, result: its end, as Argo reads it.
        called: how often its program ran to its end.
        terminated: whether Argo has terminated it.
        gone: whether the pod object no longer exists.
    """

    name: str
    workflow: str
    node: str
    template: str
    inputs: dict[str, str]
    manifest: Manifest
    declared_outputs: list[Manifest]
    on_exit: bool
    created: float
    began: float | None = None
    ended: float | None = None
    phase: Phase = Phase.PENDING
    message: str = ""
    exit_code: str | None = None
    outputs: dict[str, str] | None = None
    result: str | None = None
    called: int = 0
    terminated: bool = False
    gone: bool = False
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def spec(self) -> Manifest:
        """The spec of its manifest."""
        return self.manifest["spec"]

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its manifest."""
        return self.manifest["metadata"]["labels"]

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 0."""
        digits = self.node.rpartition("(")[2].rstrip(")")
        return int(digits) if self.node.endswith(")") and digits.isdigit() else 0

    def container(self, name: str = "main") -> Manifest:
        """The container of a name, which must exist."""
        return next(container for container in self.containers() if container["name"] == name)

    def containers(self) -> list[Manifest]:
        """All containers: init containers, then main, Argo's ``wait`` and sidecars."""
        return [*self.spec["initContainers"], *self.spec["containers"]]

    def command(self, name: str = "main") -> list[str]:
        """The command line of a container."""
        container = self.container(name)
        return [*container["command"], *container.get("args", [])]

    def env(self, name: str = "main") -> dict[str, str]:
        """The variables that the manifest sets for a container, expanded as Kubernetes does."""
        variables: dict[str, str] = {}
        for variable in self.container(name).get("env", []):
            if "value" in variable:
                variables[variable["name"]] = kubernetes_expanded(variable["value"], variables)
        return variables


def kubernetes_expanded(value: str, variables: Mapping[str, str]) -> str:
    """A text with ``$(NAME)`` replaced by the variable's value, if it is known, and ``$$`` by ``$``."""
    pieces: list[str] = []
    position = 0
    while position < len(value):
        if value.startswith("$$", position):
            pieces.append("$")
            position += 2
        elif value.startswith("$(", position) and (end := value.find(")", position)) > 0:
            name = value[position + 2 : end]
            pieces.append(variables.get(name, value[position : end + 1]))
            position = end + 1
        else:
            pieces.append(value[position])
            position += 1
    return "".join(pieces)


def build_pod(workflow: Workflow, node: Node, template: Manifest, now: float, on_exit: bool) -> Pod:
    """The pod of a node, from its template with inputs filled in.

    Raises:
        Rejected: main has no token, and the executor no service account.
        Unsupported: the container has no command.
    """
    spec, name = workflow.spec, node_id(workflow.name, node.name)
    metadata = substitute(spec.get("podMetadata", {}), workflow.globals)
    own = template.get("metadata", {})
    labels = {**metadata.get("labels", {}), **own.get("labels", {}), "workflows.argoproj.io/workflow": workflow.name}
    pod_spec = _spec(workflow, template)
    for patch in (spec.get("podSpecPatch"), template.get("podSpecPatch")):
        if patch:
            _merge(pod_spec, json.loads(patch))
    if deadlines := list(_deadlines(workflow, template, now, on_exit)):
        pod_spec["activeDeadlineSeconds"] = min(deadlines)
    annotations = {**metadata.get("annotations", {}), **own.get("annotations", {})}
    manifest: Manifest = {
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": pod_spec,
    }
    outputs = template.get("outputs", {}).get("parameters", [])
    return Pod(name, workflow.name, node.name, template["name"], node.inputs, manifest, outputs, on_exit, now)


def _deadlines(workflow: Workflow, template: Manifest, now: float, on_exit: bool) -> Iterator[int]:
    """Seconds from now to the template's own deadline and, except for the exit handler, to the Workflow's."""
    if "activeDeadlineSeconds" in template:
        yield int(template["activeDeadlineSeconds"])
    deadline = workflow.deadline()
    if deadline is not None and not on_exit:
        yield int(deadline - now)


def _spec(workflow: Workflow, template: Manifest) -> Manifest:
    """The spec of a pod before patches."""
    spec = workflow.spec
    pod: Manifest = {"restartPolicy": "Never"}
    for key in _INHERITED:
        if (value := template.get(key, spec.get(key))) is not None:
            pod[key] = copy.deepcopy(value)
    if "podPriorityClassName" in spec:
        pod["priorityClassName"] = spec["podPriorityClassName"]
    pod["volumes"] = [*spec.get("volumes", []), *template.get("volumes", []), {"name": "var-run-argo", "emptyDir": {}}]
    automount = template.get("automountServiceAccountToken", spec.get("automountServiceAccountToken", True))
    executor = template.get("executor", spec.get("executor", {})).get("serviceAccountName")
    pod["serviceAccountName"] = template.get("serviceAccountName", spec.get("serviceAccountName", "default"))
    pod["automountServiceAccountToken"] = automount
    if not automount and executor is None:
        raise Rejected(f"template {template['name']}: executor.serviceAccountName is needed if main has no token")
    argos: Manifest = {"image": EXECUTOR_IMAGE, "command": ["argoexec"]}
    if not automount:
        pod["volumes"].append({"name": "exec-sa-token", "secret": {"secretName": f"{executor}.service-account-token"}})
        argos["volumeMounts"] = [{"name": "exec-sa-token", "mountPath": TOKEN_PATH, "readOnly": True}]
    users: Manifest = {"env": [], **copy.deepcopy(template["container"]), "name": "main"}
    sidecars: list[Manifest] = copy.deepcopy(template.get("sidecars", []))
    if "command" not in users:
        raise Unsupported(f"template {template['name']}", "a container without a command")
    for sidecar in sidecars:  # Argo looks up the image's command in its registry; here, the image is the program's name
        sidecar.setdefault("command", [sidecar["image"]])
    pod["initContainers"] = [{**argos, "name": "init"}, *copy.deepcopy(template.get("initContainers", []))]
    pod["containers"] = [users, {**argos, "name": "wait"}, *sidecars]
    every: list[Manifest] = [*pod["initContainers"], *pod["containers"]]
    for container in every:
        for variable in container.get("env", []):
            if "value" in variable:
                variable["value"] = text(variable["value"])
    return pod


def _merge(target: Manifest, patch: Manifest) -> None:
    """A strategic merge patch, simplified: lists whose entries have names are merged by name, others are replaced."""
    for key, value in patch.items():
        known = target.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value)
        elif isinstance(value, list) and isinstance(known, list) and all("name" in entry for entry in value):
            by_name = {entry["name"]: entry for entry in known}
            for entry in value:
                if entry["name"] in by_name:
                    _merge(by_name[entry["name"]], entry)
                else:
                    known.append(entry)
        else:
            target[key] = value
