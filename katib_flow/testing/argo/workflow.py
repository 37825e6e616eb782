"""A Workflow in the controller's memory: its spec, and its state so far."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from katib_flow.testing.argo.nodes import Nodes, Phase, status_of, time_text
from katib_flow.testing.argo.substitution import substitute

Manifest = dict[str, Any]


@dataclass
class Workflow:
    """One Workflow.

    Attributes:
        spec: the spec to execute, merged with that of its WorkflowTemplate.
        phase: empty until the first operation of the controller.
        started, finished: seconds on the cluster's clock.
        outputs: global outputs, by name.
        deepest: the greatest depth of nested calls of templates, which Argo limits to 100.
        largest_bytes, largest_stored_bytes: the largest size measured, as JSON and as stored.
        cache: values that follow from the rest of the state.
        quiet: DAG and Steps nodes that need no visit: nothing has changed or waits inside them.
    """

    name: str
    namespace: str
    uid: str
    labels: dict[str, str]
    spec: Manifest
    created: float
    nodes: Nodes = field(default_factory=Nodes)
    phase: str = ""
    message: str = ""
    started: float | None = None
    finished: float | None = None
    outputs: dict[str, str] = field(default_factory=dict[str, str])
    deepest: int = 0
    largest_bytes: int = 0
    largest_stored_bytes: int = 0
    cache: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any], repr=False)
    quiet: set[str] = field(default_factory=set[str], repr=False)
    _globals: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def completed(self) -> bool:
        """Whether it has ended."""
        return self.phase in ("Succeeded", "Failed", "Error")

    @property
    def globals(self) -> dict[str, str]:
        """The values of ``{{workflow...}}`` placeholders; parameters may refer to the other values."""
        if not self._globals:
            own = {
                "workflow.name": self.name,
                "workflow.namespace": self.namespace,
                "workflow.uid": self.uid,
                "workflow.mainEntrypoint": self.spec.get("entrypoint", ""),
                "workflow.serviceAccountName": self.spec.get("serviceAccountName", ""),
                "workflow.creationTimestamp": str(time_text(self.created)),
                **{f"workflow.labels.{name}": value for name, value in self.labels.items()},
            }
            parameters = {f"workflow.parameters.{given['name']}": text_of_parameter(given) for given in self.parameters}
            outputs = {f"workflow.outputs.parameters.{name}": value for name, value in self.outputs.items()}
            self._globals = own | substitute(parameters, own) | outputs
        return self._globals

    @property
    def parameters(self) -> list[Manifest]:
        """The parameters of its arguments."""
        return self.spec.get("arguments", {}).get("parameters", [])

    def forget(self) -> None:
        """Drop all values that follow from the rest of the state."""
        self.cache.clear()
        self.quiet.clear()
        self._globals = {}

    def disturb(self, node: str) -> None:
        """Note a change at a node, so that the nodes around it are visited again."""
        while node and (boundary := self.nodes[node].boundary):
            self.quiet.discard(boundary)
            node = boundary

    def deadline(self) -> float | None:
        """The time at which it must end, in seconds on the cluster's clock; None if it has no deadline yet."""
        seconds = self.spec.get("activeDeadlineSeconds")
        return None if seconds is None or self.started is None else int(self.started) + float(seconds)

    def count(self, kind: str, *phases: Phase) -> int:
        """Number of nodes of a kind, in any of the given phases or, without them, in all."""
        return sum(node.kind == kind and (not phases or node.phase in phases) for node in self.nodes)

    def status(self) -> Manifest:
        """The status as Argo writes it."""
        nodes = [status_of(node, self.name) for node in self.nodes]
        fields: Manifest = {
            "phase": self.phase,
            "message": self.message or None,
            "startedAt": time_text(self.started),
            "finishedAt": time_text(self.finished),
            "progress": f"{self.count('Pod', Phase.SUCCEEDED)}/{self.count('Pod')}",
            "nodes": {node["id"]: node for node in nodes},
            "outputs": {"parameters": [{"name": k, "value": v} for k, v in self.outputs.items()]}
            if self.outputs
            else None,
        }
        return {key: value for key, value in fields.items() if value is not None}

    def manifest(self) -> Manifest:
        """The whole Kubernetes object."""
        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": self.labels}
        kind: Manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
        return {**kind, "metadata": metadata, "spec": self.spec, "status": self.status()}

    def save(self) -> str:
        """The state that survives a restart of the controller, as text for ``load``."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return json.dumps({**kept, "nodes": self.nodes.save()})

    @classmethod
    def load(cls, text: str) -> "Workflow":
        """Restore a Workflow from the text of ``save``."""
        data: Any = json.loads(text)
        data["nodes"] = Nodes.load(data["nodes"])
        return cls(**data)


_KEPT = (
    *("name", "namespace", "uid", "labels", "spec", "created", "phase", "message", "started", "finished", "outputs"),
    *("deepest", "largest_bytes", "largest_stored_bytes"),
)


def text_of_parameter(parameter: Manifest) -> str:
    """The value of a parameter as a string, whatever its type in YAML."""
    value = parameter.get("value", parameter.get("default"))
    return text(value)


def text(value: Any) -> str:
    """A value as a string: None as "", and others than strings as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, separators=(",", ":"))


def merged_spec(workflow: Manifest, template: Manifest) -> Manifest:
    """The spec of a Workflow merged with its WorkflowTemplate's: its own fields win, parameters are merged by name."""
    own, below = workflow["spec"], template["spec"]
    merged = copy.deepcopy({**below, **{key: value for key, value in own.items() if key != "workflowTemplateRef"}})
    parameters = {
        parameter["name"]: copy.deepcopy(parameter)
        for spec in (below, own)
        for parameter in spec.get("arguments", {}).get("parameters", [])
    }
    if parameters:
        merged["arguments"] = {"parameters": list(parameters.values())}
    return merged
