"""Metrics that an object's pods do not print: a sidecar in the manifest's own pods reads them and prints them.

It is a native sidecar (Kubernetes 1.29 and up), so that a Job ends with its trial, and is told to go when that has
ended. What it prints is one report a line, ``{"metrics": {"accuracy": 0.9}, "step": 3}``.
"""

import copy
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from katib_flow.argo.cluster import Manifest
from katib_flow.argo.names import RESTRICTED, SPEC_VARIABLE
from katib_flow.argo.spec_text import encode_spec
from katib_flow.errors import KatibFlowError
from katib_flow.metrics import katib
from katib_flow.metrics.sources import NOTHING, Source, source_of
from katib_flow.spec.experiment import Experiment

NAME = "katib-flow-metrics"
READ_BY_SIDECAR = ("file", "tensorboard", "prometheus", "katib")
_POLL_SECONDS = 1.0


def with_sidecar(
    manifest: Manifest, experiment: Experiment, container: str | None, image: str, trial: str = ""
) -> Manifest:
    """The manifest with a sidecar beside each container of a name, or beside the first there is.

    Args:
        trial: the name of the trial.

    Raises:
        KatibFlowError: it has no such container.
    """
    made = copy.deepcopy(manifest)
    found = [
        (spec, each)
        for spec in _pod_specs(made)
        for each in spec["containers"]
        if container is None or each.get("name") == container
    ]
    if not found:
        what = f"a container {container!r}" if container else "a pod template with containers"
        raise KatibFlowError(f"trial.resource.manifest: found no place for the metrics' reader, need {what}")
    for spec, beside in found if container is not None else found[:1]:
        reader = {
            "name": NAME,
            "image": image,
            "restartPolicy": "Always",
            "command": ["python3", "-m", "katib_flow.steps.train"],
            "args": ["metrics", "--run", "-", "--trial", trial or "-", "--directory", "/"],
            "env": [{"name": SPEC_VARIABLE, "value": encode_spec(experiment)}],
            "securityContext": RESTRICTED,
            "volumeMounts": _shared(spec, beside, experiment),
        }
        if experiment.metrics.source == "katib":
            reader |= _reported_to(spec, beside, experiment, trial)
        spec.setdefault("initContainers", []).append(reader)
    return made


def _reported_to(spec: dict[str, Any], beside: dict[str, Any], experiment: Experiment, trial: str) -> dict[str, Any]:
    """Have a pod's container report to the sidecar: fields of the sidecar."""
    port = experiment.metrics.port or katib.PORT
    own = [each.get("name") for each in beside.setdefault("env", [])]
    given = katib.reporting_to(trial, port).items()
    beside["env"] += [{"name": name, "value": value} for name, value in given if name not in own]
    spec.setdefault("hostAliases", []).append({"ip": "127.0.0.1", "hostnames": [*katib.DB_MANAGERS]})
    listens = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1).close()"
    probe = {"exec": {"command": ["python3", "-c", listens]}, "periodSeconds": 1, "failureThreshold": 300}
    return {"startupProbe": probe}


def _pod_specs(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for each in node:
            yield from _pod_specs(each)
    elif isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield node
        for each in node.values():
            yield from _pod_specs(each)


def _shared(spec: dict[str, Any], beside: dict[str, Any], experiment: Experiment) -> list[dict[str, Any]]:
    """Mounts of the directory that the metrics are in, which both containers get; none for an endpoint."""
    if experiment.metrics.source in ("prometheus", "katib"):
        return []
    path = PurePosixPath(experiment.metrics.path or "/")
    folder = path if experiment.metrics.source == "tensorboard" else path.parent
    for mount in beside.get("volumeMounts", []):
        if folder.is_relative_to(mount["mountPath"]):
            return [{**mount, "readOnly": True}]
    mount = {"name": NAME, "mountPath": str(folder)}
    beside.setdefault("volumeMounts", []).append(mount)
    volumes = spec.setdefault("volumes", [])
    if NAME not in [volume["name"] for volume in volumes]:
        volumes.append({"name": NAME, "emptyDir": {}})
    return [{**mount, "readOnly": True}]


def source(experiment: Experiment, base: Path, trial: str) -> Source:
    """What the sidecar reads."""
    return katib.reports_of(experiment, trial, katib.PORT) or source_of(experiment, base) or NOTHING


def print_metrics(source: Source) -> None:
    """What the sidecar does: print what a source gives, until it is told to go."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while True:
        ended = told.wait(_POLL_SECONDS)
        for metric in source.read(end=ended):
            print(json.dumps({"metrics": {metric.name: metric.value}, "step": metric.step}), flush=True)
        if ended:
            return
