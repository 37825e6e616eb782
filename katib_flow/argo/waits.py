"""Which steps of a Workflow wait, and why: what a person would look up with argo and kubectl."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from katib_flow.argo.cluster import EVENT, POD, Cluster, ClusterError, Manifest
from katib_flow.argo.nodes import Node, nodes_of, phase_of

_OF_WORKFLOW = "workflows.argoproj.io/workflow"  # label of a pod
_OF_NODE = "workflows.argoproj.io/node-name"  # annotation of a pod
_ON_ITS_WAY = ("PodInitializing", "ContainerCreating", "")
_IMAGE = (
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
    *("RegistryUnavailable", "SignatureValidationFailed"),
)
_QUOTED = re.compile(r'image \\?"([^"\\]+)')
_ATTEMPT = re.compile(r"\(\d+\)$")
_NAMED = 3  # steps that wait for one reason; of more, their number is told


@dataclass(frozen=True)
class Wait:
    """Something that waits.

    Attributes:
        step: for a person: suggest, trial t00003, the Workflow ...
        why: what it waits for, or what failed before it is tried again.
        about: what tells reasons apart; the same reason may be worded differently from look to look.
    """

    step: str
    why: str
    about: str


def told(waits: Iterable[Wait]) -> list[str]:
    """Waits as lines, steps that wait for the same on one."""
    steps: dict[str, list[str]] = {}
    for wait in waits:
        steps.setdefault(wait.why, []).append(wait.step)
    return [f"{_steps(names)}: {why}" for why, names in steps.items()]


def _steps(names: list[str]) -> str:
    named = names if len(names) <= _NAMED else names[: _NAMED - 1]
    more = f" and {len(names) - len(named)} more" if len(names) > len(named) else ""
    return f"{', '.join(named)}{more} {'waits' if len(names) == 1 else 'wait'}"


def waits(cluster: Cluster, workflow: Manifest) -> list[Wait]:
    """What waits in a Workflow that has not ended; nothing where all goes on.

    Where pods may not be listed, only what Argo itself says of them is told.

    Raises:
        ClusterError: the cluster does not answer.
    """
    if workflow["spec"].get("suspend"):
        name = workflow["metadata"]["name"]
        return [Wait("the Workflow", f"it is suspended; argo resume {name} goes on", "suspended")]
    status: Mapping[str, Any] = workflow.get("status") or {}
    if phase_of(workflow) == "Pending" and not status.get("nodes"):
        why = status.get("message") or "Argo's controller has not begun with it"
        return [Wait("the Workflow", why, "controller")]
    nodes = nodes_of(workflow) or []
    pending = [node for node in nodes if node.kind == "Pod" and node.phase == "Pending"]
    pods = _pods(cluster, workflow) if pending else {}
    found = [_waiting(cluster, node, pods.get(node.name)) for node in pending]
    return [*(wait for wait in found if wait), *_tried_again(nodes)]


def _pods(cluster: Cluster, workflow: Manifest) -> dict[str, Manifest]:
    """The pods of a Workflow by the names of their nodes; none where they may not be listed."""
    found = _allowed(cluster, POD, {_OF_WORKFLOW: workflow["metadata"]["name"]}, {})
    return {(pod["metadata"].get("annotations") or {}).get(_OF_NODE, ""): pod for pod in found}


def _allowed(
    cluster: Cluster, kind: tuple[str, str], labels: Mapping[str, str], fields: Mapping[str, str]
) -> list[Manifest]:
    try:
        return cluster.find(kind, labels, fields)
    except ClusterError as error:
        if error.passing:
            raise
        return []


def _waiting(cluster: Cluster, node: Node, pod: Manifest | None) -> Wait | None:
    reason, message, image = next(_reasons(pod or {}), ("", "", ""))
    if not reason and (pod is None or node.message):
        reason, message = _split(node.message)
    if not reason and pod is not None:
        reason, message = _event(cluster, pod["metadata"]["name"])
    if reason in _ON_ITS_WAY:
        return None
    if reason in _IMAGE:
        quoted = _QUOTED.search(message)
        image = image or (quoted[1] if quoted else "")
        return Wait(node.step, f"the image {image} cannot be pulled: {message or reason} ({reason})", f"image {image}")
    return Wait(node.step, f"{reason}: {message}" if message else reason, reason)


def _reasons(pod: Manifest) -> Iterator[tuple[str, str, str]]:
    """Reason, message and image of each container that cannot start, then why the pod has no node."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for kind in ("initContainer", "container"):
        images = {each["name"]: each.get("image", "") for each in spec.get(f"{kind}s") or []}
        for each in status.get(f"{kind}Statuses") or []:
            waiting = (each.get("state") or {}).get("waiting") or {}
            if waiting.get("reason", "") not in _ON_ITS_WAY:
                yield waiting["reason"], waiting.get("message") or "", images.get(each["name"], "")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield condition.get("reason") or "Unschedulable", condition.get("message") or "", ""


def _split(message: str) -> tuple[str, str]:
    """Reason and message of what Argo says of a pod; a reason is one word."""
    reason, _, rest = message.partition(": ")
    return (reason, rest) if re.fullmatch(r"[A-Za-z]+", reason) else (message, "")


def _event(cluster: Cluster, pod: str) -> tuple[str, str]:
    """Reason and message of the last warning about a pod, such as a volume's Secret that is missing."""
    events = _allowed(cluster, EVENT, {}, {"involvedObject.name": pod, "type": "Warning"})
    last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default={})
    return last.get("reason") or "", last.get("message") or ""


def _tried_again(nodes: Iterable[Node]) -> Iterator[Wait]:
    """Steps whose last try has failed, and that wait for the next."""
    retries = {node.name: node for node in nodes if node.kind == "Retry" and not node.ended}
    last: dict[str, Node] = {}
    for node in nodes:  # the oldest first
        if node.kind == "Pod" and (retry := retries.get(_ATTEMPT.sub("", node.name))):
            last[retry.name] = node
    for node in last.values():
        if node.bad:
            number = int(node.name[node.name.rindex("(") + 1 : -1]) + 1
            yield Wait(node.step, f"try {number} failed, and it is tried again: {node.message}", node.message)
