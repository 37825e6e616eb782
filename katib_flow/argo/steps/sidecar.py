"""Metrics that an object's pods do not print: a sidecar in these pods reads them and prints them.

It is a native sidecar (Kubernetes 1.29 and newer), so that a Job ends with its trial: Kubernetes terminates the sidecar
when the trial has ended. It prints one report per line, such as ``{"metrics": {"accuracy": 0.9}, "step": 3}``.
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
_REPORTS = "/katib-flow"  # directory of the file to which a custom collector reports
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
    """Return the manifest with a metrics sidecar beside each container of the given name, or beside the first one.

    A custom collector is a regular container, as in Katib: the pod ends when both it and the trial have ended.

    Args:
        manifest: the object.
        experiment: the experiment.
        container: name of the trial's container; None for the first one.
        image: image of the sidecar.
        trial: name of the trial.
        values: values of the placeholders ``${...}`` in the collector's arguments.

    Raises:
        KatibFlowError: the manifest has no such container.
    """
    extended = copy.deepcopy(manifest)
    targets = [
        (spec, candidate)
        for spec in _pod_specs(extended)
        for candidate in spec["containers"]
        if container is None or candidate.get("name") == container
    ]
    if not targets:
        what = f"a container {container!r}" if container else "a pod template with containers"
        raise KatibFlowError(f"trial.resource.manifest: found no container to add the metrics sidecar to, need {what}")
    for spec, target in targets if container is not None else targets[:1]:
        reader: dict[str, Any] = {
            "name": NAME,
            "image": image,
            "restartPolicy": "Always",
            "command": ["python3", "-m", "katib_flow.steps.train"],
            "args": ["metrics", "--run", "-", "--trial", trial or "-", "--directory", "/"],
            "env": [{"name": SPEC_VARIABLE, "value": encode_spec(experiment)}],
            "securityContext": RESTRICTED,
            "volumeMounts": _shared(spec, target, experiment),
        }
        if experiment.metrics.source == "katib":
            reader |= _report_to_sidecar(spec, target, experiment, trial)
        elif (collector := experiment.metrics.container) is not None:
            collecting = _add_collector(spec, collector, reader["volumeMounts"], values)
            reader |= _report_to_sidecar(spec, collecting, experiment, trial)
            reader["volumeMounts"] = [{"name": COLLECTOR, "mountPath": _REPORTS, "readOnly": True}]
        spec.setdefault("initContainers", []).append(reader)
    return extended


def _add_collector(
    spec: dict[str, Any], collector: Collector, shared: list[dict[str, Any]], values: Mapping[str, Value]
) -> dict[str, Any]:
    """Add the container of a custom collector to a pod, and return the container.

    Args:
        shared: mounts of the trial's output.
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
            container[key] = [word.replace("$", "$$") for word in container[key]]  # Kubernetes turns $$ into $
    spec["containers"].append(container)
    spec.setdefault("volumes", []).append({"name": COLLECTOR, "emptyDir": {}})
    spec.setdefault("shareProcessNamespace", True)  # Katib's collectors watch the trial's process
    return container


def _report_to_sidecar(
    spec: dict[str, Any], container: dict[str, Any], experiment: Experiment, trial: str
) -> dict[str, Any]:
    """Make a pod's container report to the sidecar, and return the fields that the sidecar needs for it."""
    port = experiment.metrics.port or katib.PORT
    own = [variable.get("name") for variable in container.setdefault("env", [])]
    variables = katib.reporting_to(trial, port).items()
    container["env"] += [{"name": name, "value": value} for name, value in variables if name not in own]
    spec.setdefault("hostAliases", []).append({"ip": "127.0.0.1", "hostnames": [*katib.DB_MANAGERS]})
    listens = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1).close()"
    probe = {"exec": {"command": ["python3", "-c", listens]}, "periodSeconds": 1, "failureThreshold": 300}
    return {"startupProbe": probe}


def first_container(manifest: Manifest) -> str | None:
    """Return the name of the container that gets the sidecar by default; None if the object has no containers."""
    return next((spec["containers"][0].get("name") for spec in _pod_specs(manifest) if spec["containers"]), None)


def _pod_specs(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from _pod_specs(item)
    elif isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield node
        for value in node.values():
            yield from _pod_specs(value)


def _shared(spec: dict[str, Any], container: dict[str, Any], experiment: Experiment) -> list[dict[str, Any]]:
    """Share the directory of the metrics between both containers; return the sidecar's mounts, none for an endpoint."""
    if experiment.metrics.source in ("prometheus", "katib"):
        return []
    if experiment.metrics.path is None:
        return []
    path = PurePosixPath(experiment.metrics.path)
    folder = path.parent if experiment.metrics.source == "file" else path
    for mount in container.get("volumeMounts", []):
        if folder.is_relative_to(mount["mountPath"]):
            return [{**mount, "readOnly": True}]
    mount = {"name": NAME, "mountPath": str(folder)}
    container.setdefault("volumeMounts", []).append(mount)
    volumes = spec.setdefault("volumes", [])
    if NAME not in [volume["name"] for volume in volumes]:
        volumes.append({"name": NAME, "emptyDir": {}})
    return [{**mount, "readOnly": True}]


def source(experiment: Experiment, base: Path, trial: str) -> Source:
    """Return the source that the sidecar reads."""
    return katib.reports_of(experiment, trial, katib.PORT) or source_of(experiment, base) or NOTHING


def print_metrics(source: Source, reports: Path = Path(_REPORTS, "report.jsonl")) -> None:
    """Print the metrics of a source and the reports of a collector until SIGTERM. This is the sidecar's program.

    Args:
        source: the source of metrics.
        reports: the collector's file, whose lines are printed unchanged.
    """
    written = Lines(reports)
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    while True:
        ended = terminated.wait(_POLL_SECONDS)
        for metric in source.read(end=ended):
            print(json.dumps({"metrics": {metric.name: metric.value}, "step": metric.step}), flush=True)
        for line in written.read(end=ended):
            print(line, flush=True)
        if ended:
            return
