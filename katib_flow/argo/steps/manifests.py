"""The object that a resource or template trial creates: plain data with the trial's values in it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.argo.cluster import POD, WORKFLOW, Kind, Manifest, kind_of
from katib_flow.argo.names import LABEL, RUN_LABEL, TRIAL_LABEL, steps_image
from katib_flow.argo.steps.sidecar import READ_BY_SIDECAR, first_container, with_sidecar
from katib_flow.history import Value
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.template import Inactive, substitute

_LONGEST_NAME = 45  # controllers append to it for pods and services, whose names end at 63
_WORKFLOW_SUCCEEDED = 'status.[@this].#(phase=="Succeeded")#'
_WORKFLOW_FAILED = 'status.[@this].#(finishedAt>"")#|#(phase!="Succeeded")#'


@dataclass(frozen=True)
class Watched:
    """What is created, and how its end and its metrics are found.

    Attributes:
        pods: labels of the pods whose logs are read, beside belonging to the object.
    """

    manifest: Manifest
    success: str
    failure: str
    pods: Mapping[str, str]
    container: str | None
    retain: bool

    @property
    def kind(self) -> Kind:
        return kind_of(self.manifest)

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    def owns(self, pod: Manifest) -> bool:
        """Whether a pod belongs to the object: controllers begin its name with that of the object."""
        name = pod["metadata"]["name"]
        return name.startswith(f"{self.name}-") or (name == self.name and self.kind == POD)


def watched(experiment: Experiment, run: str, trial_id: str, values: Mapping[str, Value], owner: Manifest) -> Watched:
    """The object of a trial.

    Args:
        values: what ``${...}`` stands for, but for the trial's name, which is the object's.
        owner: reference to the Workflow, with which the object goes.
    """
    name = object_name(run, trial_id)
    values = {**values, "trial.name": name}
    template = experiment.trial
    if template.resource is not None:
        resource = template.resource
        manifest: Manifest = filled(resource.manifest, values)
        success, failure = resource.conditions
        if kind_of(manifest) == WORKFLOW:
            success = resource.success_condition or _WORKFLOW_SUCCEEDED
            failure = resource.failure_condition or _WORKFLOW_FAILED
        pods, container, retain = resource.primary_pod_labels, resource.primary_container, resource.retain
        if experiment.metrics.source in READ_BY_SIDECAR:
            manifest = with_sidecar(manifest, experiment, container, steps_image(experiment), name, values)
        if experiment.metrics.container is not None:
            container = container or first_container(manifest)  # of several, which is read must be said
    else:
        assert template.template is not None
        manifest, pods = _of_template(experiment, values), template.template.primary_pod_labels
        success, failure, retain = _WORKFLOW_SUCCEEDED, _WORKFLOW_FAILED, template.template.retain
        container = "main"
    metadata = manifest.setdefault("metadata", {})
    labels = labels_of(experiment, run, trial_id)
    metadata |= {"name": name, "labels": metadata.get("labels", {}) | labels, "ownerReferences": [owner]}
    for generated in ("generateName", "namespace"):
        metadata.pop(generated, None)
    return Watched(manifest, success, failure, filled(pods, values), container, retain)


def labels_of(experiment: Experiment, run: str, trial_id: str) -> dict[str, str]:
    """By which a trial's object is found, and known as ours."""
    return {LABEL: experiment.name, RUN_LABEL: label_value(run), TRIAL_LABEL: trial_id}


def kind_of_trial(experiment: Experiment) -> Kind | None:
    """The kind of object that trials are; None where they run in their own pods."""
    template = experiment.trial
    if template.resource is not None:
        return kind_of(template.resource.manifest)
    return WORKFLOW if template.template is not None else None


def _of_template(experiment: Experiment, values: Mapping[str, Value]) -> Manifest:
    reference = experiment.trial.template
    assert reference is not None
    scope = {"clusterScope": True} if reference.cluster_scope else {}
    given = filled(reference.arguments, values)
    arguments = {"parameters": [{"name": key, "value": value} for key, value in given.items()]}
    spec = {"workflowTemplateRef": {"name": reference.name, **scope}, "arguments": arguments}
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {}, "spec": spec}


def filled(node: Any, values: Mapping[str, Value]) -> Any:
    """Plain data with the placeholders in its texts replaced; what names an inactive parameter is left out."""
    if isinstance(node, str):
        return substitute(node, values)
    if isinstance(node, Mapping):
        return {key: each[0] for key, value in node.items() if (each := _filled(value, values))}
    if isinstance(node, list | tuple):
        return [each[0] for value in node if (each := _filled(value, values))]
    return node


def _filled(node: Any, values: Mapping[str, Value]) -> tuple[Any] | None:
    try:
        return (filled(node, values),)
    except Inactive:
        return None


def object_name(run: str, trial_id: str) -> str:
    """The same for every try of a trial, and short enough for what controllers append."""
    name = f"{run}-{trial_id}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{run[: _LONGEST_NAME - len(trial_id) - 10].rstrip('-.')}-{digest}-{trial_id}"


def label_value(text: str) -> str:
    """A label's value ends at 63 characters."""
    return text if len(text) <= 63 else f"{text[:54]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
