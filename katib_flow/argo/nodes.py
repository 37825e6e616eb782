"""Read the nodes of a Workflow, Argo's records of its steps, from the Workflow's status. No I/O."""

import base64
import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katib_flow.argo.cluster import Manifest

COMPLETED = ("Succeeded", "Failed", "Error")
_ENDED = (*COMPLETED, "Skipped", "Omitted")
_ENDED_FROM_OUTSIDE = ("shutdown with strategy", "Stopped with strategy", "exceeded its deadline", "workflow deadline")
_TRIAL = "trial"


@dataclass(frozen=True)
class Node:
    """One node of a Workflow.

    Attributes:
        name: path that begins with the Workflow's name; an attempt's is that of its Retry node followed by a number.
        kind: Pod, Retry, DAG, Steps, StepGroup, TaskGroup or Skipped.
        started, finished: times as RFC 3339 text; "" if the node has not started or finished.
        inputs: values of the input parameters by name.
    """

    id: str
    name: str
    kind: str
    template: str
    phase: str
    message: str
    started: str = ""
    finished: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def ended(self) -> bool:
        """Whether the phase is final."""
        return self.phase in _ENDED

    @property
    def bad(self) -> bool:
        """Whether the node failed, or ended in an error."""
        return self.phase in ("Failed", "Error")

    @property
    def ended_from_outside(self) -> bool:
        """Whether ``argo stop``, ``argo terminate`` or the Workflow's deadline ended the node with its Workflow."""
        return any(words in self.message for words in _ENDED_FROM_OUTSIDE)

    @property
    def step(self) -> str:
        """The step of the experiment that the node belongs to, for messages."""
        if self.template == _TRIAL and self.inputs.get("id"):
            return f"trial {self.inputs['id']}"
        return f"{self.template} of lane {self.inputs['lane']}" if self.inputs.get("lane") else self.template


def phase_of(workflow: Manifest) -> str:
    """Return the phase of a Workflow; Pending if the controller has not set one."""
    return (workflow.get("status") or {}).get("phase") or "Pending"


def nodes_of(workflow: Manifest) -> list[Node] | None:
    """Return the nodes of a Workflow, oldest first; None if Argo stores them elsewhere or in an unknown format."""
    status: Mapping[str, Any] = workflow.get("status") or {}
    nodes: Mapping[str, Any] | None = status.get("nodes")
    if not nodes:
        if status.get("offloadNodeStatusVersion"):
            return None
        nodes = _decompressed(status.get("compressedNodes") or "")
    return None if nodes is None else sorted(map(_node, nodes.values()), key=lambda node: (node.started, node.name))


def _decompressed(text: str) -> Mapping[str, Any] | None:
    """Decompress the nodes of a large Workflow; None if they are not compressed in Argo's default way."""
    if not text:
        return {}
    try:
        return json.loads(gzip.decompress(base64.b64decode(text)))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return None


def _node(status: Mapping[str, Any]) -> Node:
    parameters: Iterable[Any] = (status.get("inputs") or {}).get("parameters") or ()
    return Node(
        id=status.get("id", ""),
        name=status.get("name", ""),
        kind=status.get("type", ""),
        template=status.get("templateName") or "",
        phase=status.get("phase") or "Pending",
        message=status.get("message") or "",
        started=status.get("startedAt") or "",
        finished=status.get("finishedAt") or "",
        inputs={parameter["name"]: str(parameter.get("value", "")) for parameter in parameters},
    )


def tries_of(nodes: Sequence[Node], trial_id: str) -> list[Node]:
    """Return the nodes of a trial's pods, in the order of the attempts."""
    return [
        node
        for node in nodes
        if node.kind == "Pod" and node.template == _TRIAL and node.inputs.get("id") == trial_id
    ]  # fmt: skip


def first_failure(nodes: Iterable[Node]) -> Node | None:
    """Return the pod that failed first; a trial's pod, whose failure is a result, only if no step has failed."""
    bad = [node for node in nodes if node.kind == "Pod" and node.bad]
    return min(bad, key=lambda node: (node.template == _TRIAL, node.finished), default=None)
