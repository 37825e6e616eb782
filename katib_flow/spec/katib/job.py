"""A batch/v1 Job -> a container trial, if it has nothing that a container trial cannot express."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from katib_flow.spec.katib.draft import get, items, mapping
from katib_flow.spec.katib.placement import Placement, secret_key

_POD = "spec.template.spec"
_EXPANDED = re.compile(r"\$\$(?!\{)|\$\(([A-Za-z_][\w.-]*)\)")
_SIDECAR = "sidecar.istio.io/inject"


@dataclass(frozen=True)
class Job:
    """A Job as written in a manifest.

    Attributes:
        at: the path of the Job in the manifest.
    """

    body: Mapping[str, Any]
    at: str

    @property
    def container_path(self) -> str:
        """The path of the first container in the Job."""
        return f"{_POD}.containers[0]"

    @cached_property
    def _template(self) -> Any:
        return get(self.body, "spec", "template")

    @cached_property
    def _pod(self) -> Any:
        return get(self._template, "spec")

    @cached_property
    def _containers(self) -> list[Any]:
        return items(get(self._pod, "containers"))

    @cached_property
    def container_names(self) -> list[str]:
        """The names of all containers that have one."""
        return [str(name) for container in self._containers if (name := get(container, "name")) is not None]

    @cached_property
    def obstacles(self) -> list[str]:
        """Paths in the Job of what a container trial cannot express; empty if it can be one."""
        return list(self._obstacles())

    def _obstacles(self) -> Iterator[str]:
        yield from (f"spec.{key}" for key, value in self._of("spec") if not _harmless(key, value))
        labels = get(self._template, "metadata", "labels")
        if labels is not None and (not isinstance(labels, Mapping) or set(labels) - {_SIDECAR}):
            yield "spec.template.metadata.labels"
        yield from (f"{_POD}.{key}" for key, value in self._of("spec", "template", "spec") if not _placed(key, value))
        if len(self._containers) == 1 and isinstance(self._containers[0], Mapping):
            yield from (f"{self.container_path}.{key}" for key in self._container_obstacles(self._containers[0]))
            yield from (f"spec.template.{path}" for path in self.placement.left)
        else:
            yield f"{_POD}.containers"

    def _of(self, *keys: str) -> list[tuple[str, Any]]:
        return list(mapping(get(self.body, *keys)).items())

    def _container_obstacles(self, container: Mapping[str, Any]) -> Iterator[str]:
        if not container.get("command"):
            yield "command"
        yield from (key for key in container if key not in (*_KEPT, *_IGNORED))
        for key in ("command", "args"):
            if not all(isinstance(item, str) for item in _items(container.get(key), key)):
                yield key
        for position, item in enumerate(_items(container.get("env"), "env")):
            if not isinstance(get(item, "name"), str) or not isinstance(get(item, "value") or "", str):
                yield f"env[{position}]"
            elif get(item, "valueFrom") is not None and secret_key(item) is None:
                yield f"env[{position}].valueFrom"
        if not isinstance(container.get("resources") or {}, Mapping):
            yield "resources"

    @cached_property
    def placement(self) -> Placement:
        """Where the pod runs, its annotations, mounts and secrets; for a Job with one container."""
        inject = {_SIDECAR: label} if (label := get(self._template, "metadata", "labels", _SIDECAR)) else {}
        annotations = get(self._template, "metadata", "annotations")
        either = {**inject, **annotations} if isinstance(annotations, Mapping) else annotations or inject
        placement = Placement.from_pod(self._pod, self._containers[0], either)
        secrets = {str(get(item, "name")): key for item in self._environment() if (key := secret_key(item))}
        placement.of_trials |= {"secrets": secrets} if secrets else {}
        return placement

    def _environment(self) -> list[Any]:
        return items(get(self._containers[0], "env"))

    @cached_property
    def container(self) -> dict[str, Any]:
        """The container trial, still with Katib's placeholders; for a Job without obstacles."""
        container = self._containers[0]
        env: dict[str, str] = {}
        for item in self._environment():
            if "valueFrom" not in item:
                env[item["name"]] = expanded(item.get("value") or "", env)
        parts = {
            "image": container.get("image"),
            "command": [expanded(text, env) for text in container["command"]],
            "args": [expanded(text, env) for text in container.get("args") or ()],
            "env": env,
            "working_dir": container.get("workingDir"),
            "resources": {key: part for key, part in (container.get("resources") or {}).items() if part},
        }
        return {key: part for key, part in parts.items() if part or key == "image"}

    @cached_property
    def timeout(self) -> Any:
        """The active deadline of the Job, or else of its pod, in seconds as written; None if there is no deadline."""
        of_job, of_pod = get(self.body, "spec", "activeDeadlineSeconds"), get(self._pod, "activeDeadlineSeconds")
        return of_pod if of_job is None else of_job

    @cached_property
    def notes(self) -> list[str]:
        """Remarks on what a container trial does differently."""
        return list(self._differences())

    def _differences(self) -> Iterator[str]:
        if get(self._pod, "restartPolicy") == "OnFailure" or get(self.body, "spec", "backoffLimit"):
            yield "a Job restarts a failed pod; here a failed trial is not restarted, see limits.retries"
        for kind in ("labels", "annotations"):
            if names := mapping(get(self.body, "metadata", kind)):
                yield f"left out the {kind} of the Job ({', '.join(names)}), because the trial is a pod of a Workflow"


_KEPT = (
    "name",
    "image",
    "command",
    "args",
    "env",
    "resources",
    "workingDir",
    "imagePullPolicy",
    "volumeMounts",
    "envFrom",
)
_IGNORED = ("ports", "terminationMessagePath", "terminationMessagePolicy")
_POD_KEPT = (
    "containers",
    "restartPolicy",
    "activeDeadlineSeconds",
    "nodeSelector",
    "tolerations",
    "imagePullSecrets",
    "volumes",
)


def _placed(key: str, value: Any) -> bool:
    """True if a key of a pod's spec is kept, or empty."""
    return key in _POD_KEPT or value in (None, [], {})


def _items(value: Any, key: str) -> list[Any]:
    """The items of an optional list; anything else becomes one item, which is invalid everywhere."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [{key: value}]


def _harmless(key: str, value: Any) -> bool:
    """True if a key of a Job's spec does not prevent a container trial."""
    if key in ("completions", "parallelism"):
        return value == 1
    if key in ("suspend", "manualSelector"):
        return not value
    return key in ("template", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "completionMode")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: a reference to an unknown name stays unchanged."""

    def replace(match: re.Match[str]) -> str:
        return env.get(match[1], match[0]) if match[1] else "$"

    return _EXPANDED.sub(replace, text)
