"""Metrics that an object's pods do not print: a sidecar in the manifest's own pods reads them and prints them.

It is a native sidecar (Kubernetes 1.29 and up), so that a Job ends with its trial, and is told to go when that has
ended. What it prints is one report a line, ``{"metrics": {"accuracy": 0.9}, "step": 3}``.
"""

import copy
import json
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from katib_flow.argo.cluster import Manifest
from katib_flow.argo.names import RESTRICTED, SPEC_VARIABLE
from katib_flow.argo.spec_text import encode_spec
from katib_flow.errors import KatibFlowError
from katib_flow.history import Value
from katib_flow.metrics import katib
from katib_flow.metrics.lines import Lines
from katib_flow.metrics.sources import NOTHING, Source, source_of
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Collector
from katib_flow.spec.template import substitute_all, substitute_env
from katib_flow.trial.protocol import REPORT_FILE

NAME = "katib-flow-metrics"
COLLECTOR = "katib-flow-collector"
READ_BY_SIDECAR = ("file", "tensorboard", "prometheus", "katib", "custom")
_REPORTS = "/katib-flow"  # of the user's own collector, to a file
NO_VALUES: Mapping[str, Value] = {}
_POLL_SECONDS = 1.0


def with_sidecar(
    manifest: Manifest,
    experiment: Experiment,
    container: str | None,
    image: str,
    trial: str = "",
    values: Mapping[str, Value] = NO_VALUES,
) -> Manifest:
    """The manifest with a sidecar beside each container of a name, or beside the first there is.

    A collector of the user's own is a container beside it, as in Katib: the pod ends when both have ended.

    Args:
        trial: the name of the trial.
        values: what ``${...}`` stands for in the collector's arguments.

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
        reader: dict[str, Any] = {
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
        elif (collector := experiment.metrics.container) is not None:
            theirs = _collecting(spec, collector, reader["volumeMounts"], values)
            reader |= _reported_to(spec, theirs, experiment, trial)
            reader["volumeMounts"] = [{"name": COLLECTOR, "mountPath": _REPORTS, "readOnly": True}]
        spec.setdefault("initContainers", []).append(reader)
    return made


def _collecting(
    spec: dict[str, Any], collector: Collector, shared: list[dict[str, Any]], values: Mapping[str, Value]
) -> dict[str, Any]:
    """The container of the user's own collector, put into a pod.

    Args:
        shared: mounts of what the trial writes.
    """
    variables = {REPORT_FILE: f"{_REPORTS}/report.jsonl", **substitute_env(collector.env, values)}
    fields: dict[str, Any] = {
        "command": substitute_all(collector.command or (), values),
        "args": substitute_all(collector.args, values),
        "workingDir": collector.working_dir,
        "resources": collector.resources,
    }
    security = {key: value for key, value in RESTRICTED.items() if key != "readOnlyRootFilesystem"}
    container: dict[str, Any] = {
        "name": COLLECTOR,
        "image": collector.image,
        **{key: value for key, value in fields.items() if value},
        "env": [{"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()],
        "securityContext": security,
        "volumeMounts": [
            *({**mount, "readOnly": False} for mount in shared),
            {"name": COLLECTOR, "mountPath": _REPORTS},
        ],
    }
    for key in ("command", "args"):
        if key in container:
            container[key] = [word.replace("$", "$$") for word in container[key]]  # Kubernetes halves it again
    spec["containers"].append(container)
    spec.setdefault("volumes", []).append({"name": COLLECTOR, "emptyDir": {}})
    spec.setdefault("shareProcessNamespace", True)  # Katib's collectors look for the trial's process
    return container


def _reported_to(spec: dict[str, Any], beside: dict[str, Any], experiment: Experiment, trial: str) -> dict[str, Any]:
    """Have a pod's container report to the sidecar: fields of the sidecar."""
    port = experiment.metrics.port or katib.PORT
    own = [variable.get("name") for variable in beside.setdefault("env", [])]
    given = katib.reporting_to(trial, port).items()
    beside["env"] += [{"name": name, "value": value} for name, value in given if name not in own]
    spec.setdefault("hostAliases", []).append({"ip": "127.0.0.1", "hostnames": [*katib.DB_MANAGERS]})
    listens = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1).close()"
    probe = {"exec": {"command": ["python3", "-c", listens]}, "periodSeconds": 1, "failureThreshold": 300}
    return {"startupProbe": probe}


def first_container(manifest: Manifest) -> str | None:
    """The name of the container beside which a sidecar is put where none is named."""
    return next((spec["containers"][0].get("name") for spec in _pod_specs(manifest) if spec["containers"]), None)


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
    if experiment.metrics.path is None:
        return []
    path = PurePosixPath(experiment.metrics.path)
    folder = path.parent if experiment.metrics.source == "file" else path
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


def print_metrics(source: Source, reports: Path = Path(_REPORTS, "report.jsonl")) -> None:
    """What the sidecar does: print what a source gives, and what a collector has written, until it is told to go.

    Args:
        reports: the collector's file, which has the form of what is printed.
    """
    written = Lines(reports)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    while True:
        ended = told.wait(_POLL_SECONDS)
        for metric in source.read(end=ended):
            print(json.dumps({"metrics": {metric.name: metric.value}, "step": metric.step}), flush=True)
        for line in written.read(end=ended):
            print(line, flush=True)
        if ended:
            return
