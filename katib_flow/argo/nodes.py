"""What Argo keeps of the steps of a Workflow, read out of the Workflow's status. Pure."""

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
        name: path from the Workflow's name; an attempt's is its Retry node's with a number behind it.
        kind: Pod, Retry, DAG, Steps, StepGroup, TaskGroup or Skipped.
        started, finished: as text, "" where it has not.
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
        return self.phase in _ENDED

    @property
    def bad(self) -> bool:
        return self.phase in ("Failed", "Error")

    @property
    def ended_from_outside(self) -> bool:
        """Whether it was ended with its Workflow: by ``argo stop``, ``argo terminate`` or the Workflow's deadline."""
        return any(words in self.message for words in _ENDED_FROM_OUTSIDE)

    @property
    def step(self) -> str:
        """The step of the experiment that it belongs to, for a person."""
        if self.template == _TRIAL and self.inputs.get("id"):
            return f"trial {self.inputs['id']}"
        return f"{self.template} of lane {self.inputs['lane']}" if self.inputs.get("lane") else self.template


def phase_of(workflow: Manifest) -> str:
    return (workflow.get("status") or {}).get("phase") or "Pending"


def nodes_of(workflow: Manifest) -> list[Node] | None:
    """The nodes of a Workflow, the oldest first; None where Argo keeps them elsewhere, or in a form unknown here."""
    status: Mapping[str, Any] = workflow.get("status") or {}
    found: Mapping[str, Any] | None = status.get("nodes")
    if not found:
        if status.get("offloadNodeStatusVersion"):
            return None
        found = _decompressed(status.get("compressedNodes") or "")
    return None if found is None else sorted(map(_node, found.values()), key=lambda node: (node.started, node.name))


def _decompressed(text: str) -> Mapping[str, Any] | None:
    """Nodes that Argo has compressed, as it does by default; None where they are compressed in another way."""
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
        inputs={each["name"]: str(each.get("value", "")) for each in parameters},
    )


def tries_of(nodes: Sequence[Node], trial_id: str) -> list[Node]:
    """The pods of a trial, in the order in which they were tried."""
    return [
        node
        for node in nodes
        if node.kind == "Pod" and node.template == _TRIAL and node.inputs.get("id") == trial_id
    ]  # fmt: skip


def first_failure(nodes: Iterable[Node]) -> Node | None:
    """The pod whose failure came first; one of a trial's, which is a result, only where no other step has failed."""
    bad = [node for node in nodes if node.kind == "Pod" and node.bad]
    return min(bad, key=lambda node: (node.template == _TRIAL, node.finished), default=None)
