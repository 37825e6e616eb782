"""Build the Kubernetes object of a resource or template trial from its template and the trial's values."""

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

_LONGEST_NAME = 45  # controllers append to it for pods and services, whose names are limited to 63 characters
_WORKFLOW_SUCCEEDED = 'status.[@this].#(phase=="Succeeded")#'
_WORKFLOW_FAILED = 'status.[@this].#(finishedAt>"")#|#(phase!="Succeeded")#'


@dataclass(frozen=True)
class Watched:
    """An object to create, and how to find its end and its metrics.

    Attributes:
        manifest: the object.
        success, failure: GJSON conditions on the object.
        pods: labels of those of its pods whose logs are read.
        container: the container whose log is read; None if each pod has only one.
        retain: whether to keep the object after its end.
    """

    manifest: Manifest
    success: str
    failure: str
    pods: Mapping[str, str]
    container: str | None
    retain: bool

    @property
    def kind(self) -> Kind:
        """The API version and the kind of the object."""
        return kind_of(self.manifest)

    @property
    def name(self) -> str:
        """The name of the object."""
        return self.manifest["metadata"]["name"]

    def owns(self, pod: Manifest) -> bool:
        """Whether a pod belongs to the object, with whose name controllers begin the pod's."""
        name = pod["metadata"]["name"]
        return name.startswith(f"{self.name}-") or (name == self.name and self.kind == POD)


def watched(experiment: Experiment, run: str, trial_id: str, values: Mapping[str, Value], owner: Manifest) -> Watched:
    """Build the object of a trial.

    Args:
        experiment: the experiment, whose trials are a resource or a template.
        run: name of the run.
        trial_id: id of the trial.
        values: values of the placeholders ``${...}``, except ``trial.name``, which is the object's name.
        owner: reference to the Workflow; Kubernetes deletes the object with it.

    Raises:
        KatibFlowError: the manifest has no container for the metrics sidecar.
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
            container = container or first_container(manifest)  # Kubernetes requires the name if there are several
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
    """Return the labels by which a trial's object is found and identified."""
    return {LABEL: experiment.name, RUN_LABEL: label_value(run), TRIAL_LABEL: trial_id}


def kind_of_trial(experiment: Experiment) -> Kind | None:
    """Return the kind of the trials' objects; None if trials run in the Workflow's own pods."""
    template = experiment.trial
    if template.resource is not None:
        return kind_of(template.resource.manifest)
    return WORKFLOW if template.template is not None else None


def _of_template(experiment: Experiment, values: Mapping[str, Value]) -> Manifest:
    reference = experiment.trial.template
    assert reference is not None
    scope = {"clusterScope": True} if reference.cluster_scope else {}
    parameters = filled(reference.arguments, values)
    arguments = {"parameters": [{"name": key, "value": value} for key, value in parameters.items()]}
    spec = {"workflowTemplateRef": {"name": reference.name, **scope}, "arguments": arguments}
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": {}, "spec": spec}


def filled(node: Any, values: Mapping[str, Value]) -> Any:
    """Replace the placeholders in plain data; drop entries that refer to an inactive parameter."""
    if isinstance(node, str):
        return substitute(node, values)
    if isinstance(node, Mapping):
        return {key: active[0] for key, value in node.items() if (active := _filled(value, values))}
    if isinstance(node, list | tuple):
        return [active[0] for value in node if (active := _filled(value, values))]
    return node


def _filled(node: Any, values: Mapping[str, Value]) -> tuple[Any] | None:
    """Return the filled node in a tuple; None if it refers to an inactive parameter."""
    try:
        return (filled(node, values),)
    except Inactive:
        return None


def object_name(run: str, trial_id: str) -> str:
    """Return the name of a trial's object: the same for all attempts, and short enough for controllers' suffixes."""
    name = f"{run}-{trial_id}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(run.encode()).hexdigest()[:8]
    return f"{run[: _LONGEST_NAME - len(trial_id) - 10].rstrip('-.')}-{digest}-{trial_id}"


def label_value(text: str) -> str:
    """Shorten a text to a label value, at most 63 characters, keeping it unique."""
    return text if len(text) <= 63 else f"{text[:54]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
