"""handover: the next Workflow of the experiment, so that none grows past what Argo holds in one object."""

import copy
from datetime import UTC, datetime
from typing import Any, Protocol

from katib_flow.argo.names import LABEL
from katib_flow.errors import KatibFlowError

Manifest = dict[str, Any]
_OURS = "katib-flow/"
_NOT_COPIED = ("shutdown", "suspend")
_LEAST_SECONDS = 60


class AlreadyExists(Exception):
    """There is a Workflow of that name."""


class Workflows(Protocol):
    """The Workflows of one namespace."""

    def get(self, name: str) -> Manifest: ...

    def create(self, manifest: Manifest) -> None:
        """Raises AlreadyExists."""
        ...


def hand_over(workflows: Workflows, *, workflow: str, run: str, segment: int) -> str:
    """Create the next segment, under a name that a second try finds taken; returns the name.

    Raises:
        KatibFlowError: the name is taken by a Workflow that is not ours.
    """
    following = next_segment(workflows.get(workflow), run, segment)
    name: str = following["metadata"]["name"]
    try:
        workflows.create(following)
    except AlreadyExists:
        there = workflows.get(name)
        if not _same_run(there, following, run):
            message = f"workflow {name}: found one that is not of run {run}, need the name for its next segment"
            raise KatibFlowError(message) from None
    return name


def next_segment(mine: Manifest, run: str, segment: int) -> Manifest:
    """My own spec and labels with the next segment's number, and what is left of the deadline."""
    spec = {key: copy.deepcopy(value) for key, value in mine["spec"].items() if key not in _NOT_COPIED}
    parameters: list[dict[str, Any]] = spec.setdefault("arguments", {}).setdefault("parameters", [])
    for name, value in {"run": run, "segment": str(segment + 1)}.items():
        known = next((each for each in parameters if each["name"] == name), None)
        if known is None:
            parameters.append({"name": name, "value": value})
        else:
            known["value"] = value
    if "activeDeadlineSeconds" in spec:
        spec["activeDeadlineSeconds"] = max(_LEAST_SECONDS, int(spec["activeDeadlineSeconds"] - _age_seconds(mine)))
    labels = {key: value for key, value in mine["metadata"].get("labels", {}).items() if key.startswith(_OURS)}
    metadata = {"name": f"{run}-s{segment + 1}", "labels": labels}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}


def _age_seconds(mine: Manifest) -> float:
    started = mine.get("status", {}).get("startedAt")
    return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds() if started else 0.0


def _same_run(there: Manifest, following: Manifest, run: str) -> bool:
    parameters = {each["name"]: each.get("value") for each in there["spec"].get("arguments", {}).get("parameters", [])}
    labels = there["metadata"].get("labels", {})
    return labels.get(LABEL) == following["metadata"]["labels"].get(LABEL) and parameters.get("run") == run


class KubernetesWorkflows:
    """The Workflows of a namespace, by the pod's own account."""

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException as error:
            raise KatibFlowError(f"handover: runs in a pod with a service account's token only ({error})") from None
        self._api = client.CustomObjectsApi()
        self._where = {"group": "argoproj.io", "version": "v1alpha1", "namespace": namespace, "plural": "workflows"}

    def get(self, name: str) -> Manifest:
        return self._call("get", name, self._api.get_namespaced_custom_object, {"name": name})

    def create(self, manifest: Manifest) -> None:
        name: str = manifest["metadata"]["name"]
        self._call("create", name, self._api.create_namespaced_custom_object, {"body": manifest})

    def _call(self, verb: str, name: str, method: Any, arguments: dict[str, Any]) -> Any:
        from kubernetes.client.exceptions import ApiException

        try:
            return method(**self._where, **arguments)
        except ApiException as error:
            if error.status == 409 and verb == "create":
                raise AlreadyExists(name) from None
            message = f"workflow {name}: the cluster refuses to {verb} it: {error.status} {error.reason}"
            raise KatibFlowError(message) from None
