"""The nodes that Argo records for a Workflow: one per call of a template, attempt of a pod, or task left out."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any


class Phase(StrEnum):
    """The phase of a node, or of a pod."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    OMITTED = "Omitted"
    FAILED = "Failed"
    ERROR = "Error"

    @property
    def fulfilled(self) -> bool:
        """Whether it is final; skipped and omitted nodes are, too."""
        return self not in (Phase.PENDING, Phase.RUNNING)

    @property
    def completed(self) -> bool:
        """Whether it has run to its end; skipped and omitted nodes have not, and inherit the phase of their branch."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.ERROR)

    @property
    def bad(self) -> bool:
        """Whether it has failed, or ended in an error."""
        return self in (Phase.FAILED, Phase.ERROR)


@dataclass(slots=True)
class Node:
    """One node.

    Attributes:
        name: the path from the Workflow's name, which is unique.
        kind: Pod, Retry, DAG, Steps, StepGroup, TaskGroup or Skipped.
        template: the name of its template, or "" for a group.
        boundary: the name of the DAG or Steps node that it belongs to, or "" for the entrypoint.
        started, finished: seconds on the cluster's clock.
        inputs: the input parameters, by name.
        outputs: the output parameters, by name, or None.
        exit_code: that of the main container, as Argo stores it, or None.
        children: the names of the nodes that follow it; the nodes inside it are not among them.
        outbound: the names of the last nodes inside it.
        retried: whether it is an attempt of a Retry node.
        hooked: whether it is the exit handler.
        waiting: the lock that it waits for, or "".
    """

    name: str
    kind: str
    template: str
    boundary: str
    phase: Phase
    display: str
    started: float
    finished: float | None = None
    message: str = ""
    inputs: dict[str, str] = field(default_factory=dict[str, str])
    outputs: dict[str, str] | None = None
    result: str | None = None
    exit_code: str | None = None
    children: list[str] = field(default_factory=list[str])
    outbound: list[str] = field(default_factory=list[str])
    retried: bool = False
    hooked: bool = False
    waiting: str = ""


_FIELDS = tuple(Node.__dataclass_fields__)


class Nodes:
    """The nodes of a Workflow by name, in the order of their creation."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._inside: dict[str, list[Node]] = {}
        for node in self._nodes.values():
            self._inside.setdefault(node.boundary, []).append(node)

    def get(self, name: str) -> Node | None:
        """The node of a name, if it exists."""
        return self._nodes.get(name)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: Node) -> Node:
        """Add a node whose name is new."""
        assert node.name not in self._nodes, f"node {node.name} already initialized"
        self._nodes[node.name] = node
        self._inside.setdefault(node.boundary, []).append(node)
        return node

    def inside(self, boundary: str) -> list[Node]:
        """The nodes that belong to a DAG or Steps node."""
        return self._inside.get(boundary, [])

    def attempts(self, retry: Node) -> list[Node]:
        """The attempts of a Retry node, in order."""
        return [self[name] for name in retry.children]

    def save(self) -> str:
        """All nodes as JSON, for ``load``."""
        return json.dumps([[getattr(node, name) for name in _FIELDS] for node in self])

    @classmethod
    def load(cls, text: str) -> "Nodes":
        """Restore the nodes from the text of ``save``."""
        nodes: list[Node] = []
        for values in json.loads(text):
            fields: Any = dict(zip(_FIELDS, values, strict=True))
            fields["phase"] = Phase(fields["phase"])
            nodes.append(Node(**fields))
        return cls(nodes)


@lru_cache(maxsize=1 << 18)
def node_id(workflow: str, name: str) -> str:
    """Argo's id of a node: the Workflow's name and, for all but its first node, the FNV-1a hash of the node's name."""
    if name == workflow:
        return name
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{workflow}-{value}"


def time_text(seconds: float | None) -> str | None:
    """A time, in seconds since the epoch, as Kubernetes writes it: ``2023-11-14T22:13:20Z``."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_of(node: Node, workflow: str) -> dict[str, Any]:
    """A node as Argo writes it into the Workflow's status, at about the same size."""
    outputs: dict[str, Any] = {}
    if node.outputs:
        outputs["parameters"] = [{"name": name, "value": value} for name, value in node.outputs.items()]
    if node.result is not None:
        outputs["result"] = node.result
    if node.exit_code is not None:
        outputs["exitCode"] = node.exit_code
    flags = {name: True for name, on in (("retried", node.retried), ("hooked", node.hooked)) if on}
    pod = node.kind == "Pod"
    status: Mapping[str, Any] = {
        "id": node_id(workflow, node.name),
        "name": node.name,
        "displayName": node.display,
        "type": node.kind,
        "templateName": node.template or None,
        "templateScope": f"local/{workflow}",
        "phase": str(node.phase),
        "boundaryID": node_id(workflow, node.boundary) if node.boundary else None,
        "message": node.message or None,
        "startedAt": time_text(node.started),
        "finishedAt": time_text(node.finished),
        "progress": "1/1",
        "resourcesDuration": {"cpu": 3, "memory": 60} if node.phase.completed else None,
        "inputs": {"parameters": [{"name": name, "value": value} for name, value in node.inputs.items()]}
        if node.inputs
        else None,
        "outputs": outputs or None,
        "children": [node_id(workflow, child) for child in node.children] or None,
        "outboundNodes": [node_id(workflow, last) for last in node.outbound] or None,
        "nodeFlag": flags or None,
        "hostNodeName": "node-1.example.com" if pod else None,
        "taskResultSynced": True if pod else None,
    }
    return {key: value for key, value in status.items() if value is not None}
