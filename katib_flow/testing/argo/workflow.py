"""A Workflow as the controller has it: what was submitted, and all that has become of it so far."""

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
        spec: what is executed: of the Workflow, and beneath it of the WorkflowTemplate that it refers to.
        phase: empty until the controller has seen it.
        started, finished: seconds on the cluster's clock.
        outputs: global outputs by name.
        deepest: the greatest number of templates called one in another, which Argo ends at 100.
        largest_bytes, largest_stored_bytes: the greatest size measured of the object, as JSON, and as it is stored.
        quiet: DAG and Steps nodes beneath which nothing has changed since they were looked at, and nothing waits.
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
        return self.phase in ("Succeeded", "Failed", "Error")

    @property
    def globals(self) -> dict[str, str]:
        """What ``{{workflow...}}`` stands for; a parameter may itself be given in terms of the others."""
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
            given = {f"workflow.parameters.{each['name']}": text_of_parameter(each) for each in self.parameters}
            outputs = {f"workflow.outputs.parameters.{name}": value for name, value in self.outputs.items()}
            self._globals = own | substitute(given, own) | outputs
        return self._globals

    @property
    def parameters(self) -> list[Manifest]:
        return self.spec.get("arguments", {}).get("parameters", [])

    def forget(self) -> None:
        """Drop what was only worked out from the state."""
        self.cache.clear()
        self.quiet.clear()
        self._globals = {}

    def disturb(self, node: str) -> None:
        """Something changed at a node: all that it is inside of must be looked at again."""
        while node and (boundary := self.nodes[node].boundary):
            self.quiet.discard(boundary)
            node = boundary

    def deadline(self) -> float | None:
        seconds = self.spec.get("activeDeadlineSeconds")
        return None if seconds is None or self.started is None else int(self.started) + float(seconds)

    def count(self, kind: str, *phases: Phase) -> int:
        """How many nodes there are of a kind, in these phases where any are named."""
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
        """The whole object."""
        metadata = {"name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": self.labels}
        kind: Manifest = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
        return {**kind, "metadata": metadata, "spec": self.spec, "status": self.status()}

    def save(self) -> str:
        """The state as one text, of which ``load`` makes an equal Workflow: what survives a controller's restart."""
        kept = {name: getattr(self, name) for name in _KEPT}
        return json.dumps({**kept, "nodes": self.nodes.save()})

    @classmethod
    def load(cls, text: str) -> "Workflow":
        data: Any = json.loads(text)
        data["nodes"] = Nodes.load(data["nodes"])
        return cls(**data)


_KEPT = (
    *("name", "namespace", "uid", "labels", "spec", "created", "phase", "message", "started", "finished", "outputs"),
    *("deepest", "largest_bytes", "largest_stored_bytes"),
)


def text_of_parameter(parameter: Manifest) -> str:
    """A parameter's value, which is a text whatever YAML made of it."""
    value = parameter.get("value", parameter.get("default"))
    return text(value)


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, separators=(",", ":"))


def merged_spec(workflow: Manifest, template: Manifest) -> Manifest:
    """The spec of a Workflow over that of its WorkflowTemplate: its fields win, parameters join by name."""
    own, below = workflow["spec"], template["spec"]
    merged = copy.deepcopy({**below, **{key: value for key, value in own.items() if key != "workflowTemplateRef"}})
    parameters = {
        each["name"]: copy.deepcopy(each)
        for spec in (below, own)
        for each in spec.get("arguments", {}).get("parameters", [])
    }
    if parameters:
        merged["arguments"] = {"parameters": list(parameters.values())}
    return merged
