"""handover: the next Workflow of the experiment, so that none grows past what Argo holds in one object."""

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
    """Create the next segment, under a name that a second try finds taken; returns the name.

    Raises:
        KatibFlowError: the name is taken by a Workflow that is not ours, or the cluster refuses.
        Missing: the Workflow itself is gone.
    """
    following = next_segment(cluster.get(WORKFLOW, workflow), run, segment)
    name: str = following["metadata"]["name"]
    try:
        cluster.create(following)
    except AlreadyExists:
        there = cluster.get(WORKFLOW, name)
        if not _same_run(there, following, run):
            message = f"workflow {name}: found one that is not of run {run}, need the name for its next segment"
            raise KatibFlowError(message) from None
    return name


def next_segment(mine: Manifest, run: str, segment: int) -> Manifest:
    """My own spec and labels with the next segment's number, and what is left of the deadline."""
    spec = {key: copy.deepcopy(value) for key, value in mine["spec"].items() if key not in _NOT_COPIED}
    parameters: list[dict[str, Any]] = spec.setdefault("arguments", {}).setdefault("parameters", [])
    for name, value in {"run": run, "segment": str(segment + 1)}.items():
        known = next((each for each in parameters if each["name"] == name), None)
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


def _same_run(there: Manifest, following: Manifest, run: str) -> bool:
    parameters = {each["name"]: each.get("value") for each in there["spec"].get("arguments", {}).get("parameters", [])}
    labels = there["metadata"].get("labels", {})
    return labels.get(LABEL) == following["metadata"]["labels"].get(LABEL) and parameters.get("run") == run
