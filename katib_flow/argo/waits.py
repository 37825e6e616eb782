"""Find which steps of a Workflow wait, and why, as one would with argo and kubectl."""

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
_NAMED = 3  # steps to name per reason; further ones are counted


@dataclass(frozen=True)
class Wait:
    """A step that waits.

    Attributes:
        step: its name in messages: suggest, trial t00003, the Workflow ...
        why: the reason, or the failure after which the step is retried.
        about: identifies the reason, whose wording may change from look to look.
    """

    step: str
    why: str
    about: str


def as_lines(waits: Iterable[Wait]) -> list[str]:
    """Describe waits, one line per reason."""
    steps: dict[str, list[str]] = {}
    for wait in waits:
        steps.setdefault(wait.why, []).append(wait.step)
    return [f"{_steps(names)}: {why}" for why, names in steps.items()]


def _steps(names: list[str]) -> str:
    named = names if len(names) <= _NAMED else names[: _NAMED - 1]
    more = f" and {len(names) - len(named)} more" if len(names) > len(named) else ""
    return f"{', '.join(named)}{more} {'waits' if len(names) == 1 else 'wait'}"


def waits(cluster: Cluster, workflow: Manifest) -> list[Wait]:
    """Return what waits in a Workflow that has not ended.

    If the caller may not list pods, the reasons are those that Argo records in the Workflow.

    Raises:
        ClusterError: the cluster does not answer.
    """
    if workflow["spec"].get("suspend"):
        name = workflow["metadata"]["name"]
        return [Wait("the Workflow", f"it is suspended; resume it with: argo resume {name}", "suspended")]
    status: Mapping[str, Any] = workflow.get("status") or {}
    if phase_of(workflow) == "Pending" and not status.get("nodes"):
        why = status.get("message") or "Argo's controller has not started it"
        return [Wait("the Workflow", why, "controller")]
    nodes = nodes_of(workflow) or []
    pending = [node for node in nodes if node.kind == "Pod" and node.phase == "Pending"]
    pods = _pods(cluster, workflow) if pending else {}
    starting = [_waiting(cluster, node, pods.get(node.name)) for node in pending]
    return [*(wait for wait in starting if wait), *_retrying(nodes)]


def _pods(cluster: Cluster, workflow: Manifest) -> dict[str, Manifest]:
    """Return the pods of a Workflow by node name; empty if the caller may not list pods."""
    pods = _find_if_allowed(cluster, POD, {_OF_WORKFLOW: workflow["metadata"]["name"]}, {})
    return {(pod["metadata"].get("annotations") or {}).get(_OF_NODE, ""): pod for pod in pods}


def _find_if_allowed(
    cluster: Cluster, kind: tuple[str, str], labels: Mapping[str, str], fields: Mapping[str, str]
) -> list[Manifest]:
    """Find objects; return none if the cluster refuses."""
    try:
        return cluster.find(kind, labels, fields)
    except ClusterError as error:
        if error.transient:
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
    """Yield reason, message and image of each container that cannot start, then why the pod is not scheduled."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for kind in ("initContainer", "container"):
        images = {container["name"]: container.get("image", "") for container in spec.get(f"{kind}s") or []}
        for container in status.get(f"{kind}Statuses") or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason", "") not in _ON_ITS_WAY:
                yield waiting["reason"], waiting.get("message") or "", images.get(container["name"], "")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield condition.get("reason") or "Unschedulable", condition.get("message") or "", ""


def _split(message: str) -> tuple[str, str]:
    """Split Argo's message about a pod into reason, one word, and message."""
    reason, _, rest = message.partition(": ")
    return (reason, rest) if re.fullmatch(r"[A-Za-z]+", reason) else (message, "")


def _event(cluster: Cluster, pod: str) -> tuple[str, str]:
    """Return reason and message of the last warning about a pod, such as a missing Secret of a volume."""
    events = _find_if_allowed(cluster, EVENT, {}, {"involvedObject.name": pod, "type": "Warning"})
    last = max(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "", default={})
    return last.get("reason") or "", last.get("message") or ""


def _retrying(nodes: Iterable[Node]) -> Iterator[Wait]:
    """Yield the steps whose last attempt has failed and that wait for the next one."""
    retries = {node.name: node for node in nodes if node.kind == "Retry" and not node.ended}
    last: dict[str, Node] = {}
    for node in nodes:  # oldest first
        if node.kind == "Pod" and (retry := retries.get(_ATTEMPT.sub("", node.name))):
            last[retry.name] = node
    for node in last.values():
        if node.bad:
            number = int(node.name[node.name.rindex("(") + 1 : -1]) + 1
            yield Wait(node.step, f"attempt {number} failed and is retried: {node.message}", node.message)
