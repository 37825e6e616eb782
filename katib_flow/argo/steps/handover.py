"""handover: create the experiment's next Workflow, so that none outgrows the size limit of a Kubernetes object."""

import copy
from datetime import UTC, datetime
from typing import Any

from katib_flow.argo.cluster import WORKFLOW, AlreadyExists, Cluster, Manifest
from katib_flow.argo.names import LABEL, segment_name
from katib_flow.errors import KatibFlowError

_OURS = "katib-flow/"
_NOT_COPIED = ("shutdown", "suspend")
_LEAST_SECONDS = 60


def hand_over(cluster: Cluster, *, workflow: str, run: str, segment: int) -> str:
    """Create the next segment and return its name, which is the same for all attempts of the step.

    Args:
        cluster: the experiment's namespace.
        workflow: name of this Workflow.
        run: name of the run.
        segment: number of this segment.

    Raises:
        KatibFlowError: a Workflow of another run has the name, or the cluster refuses.
        Missing: this Workflow no longer exists.
    """
    following = next_segment(cluster.get(WORKFLOW, workflow), run, segment)
    name: str = following["metadata"]["name"]
    try:
        cluster.create(following)
    except AlreadyExists:
        existing = cluster.get(WORKFLOW, name)
        if not _same_run(existing, following, run):
            message = f"workflow {name}: found one of another run, need this name for the next segment of run {run}"
            raise KatibFlowError(message) from None
    return name


def next_segment(mine: Manifest, run: str, segment: int) -> Manifest:
    """Return the next segment's Workflow: this one's spec and labels, the next number and the rest of the deadline."""
    spec = {key: copy.deepcopy(value) for key, value in mine["spec"].items() if key not in _NOT_COPIED}
    parameters: list[dict[str, Any]] = spec.setdefault("arguments", {}).setdefault("parameters", [])
    for name, value in {"run": run, "segment": str(segment + 1)}.items():
        known = next((parameter for parameter in parameters if parameter["name"] == name), None)
        if known is None:
            parameters.append({"name": name, "value": value})
        else:
            known["value"] = value
    if "activeDeadlineSeconds" in spec:
        spec["activeDeadlineSeconds"] = max(_LEAST_SECONDS, int(spec["activeDeadlineSeconds"] - _age_seconds(mine)))
    labels = {key: value for key, value in mine["metadata"].get("labels", {}).items() if key.startswith(_OURS)}
    metadata = {"name": segment_name(run, segment + 1), "labels": labels}
    return {"apiVersion": WORKFLOW[0], "kind": WORKFLOW[1], "metadata": metadata, "spec": spec}


def _age_seconds(mine: Manifest) -> float:
    started = mine.get("status", {}).get("startedAt")
    return (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds() if started else 0.0


def _same_run(existing: Manifest, following: Manifest, run: str) -> bool:
    entries = existing["spec"].get("arguments", {}).get("parameters", [])
    parameters = {entry["name"]: entry.get("value") for entry in entries}
    labels = existing["metadata"].get("labels", {})
    return labels.get(LABEL) == following["metadata"]["labels"].get(LABEL) and parameters.get("run") == run
