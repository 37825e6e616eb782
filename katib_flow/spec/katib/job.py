"""A batch/v1 Job -> a container trial, where it holds no more than that can express."""

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
    """A Job as it is written.

    Attributes:
        at: where it stands in the manifest.
    """

    body: Mapping[str, Any]
    at: str

    @property
    def container_path(self) -> str:
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
        return [str(name) for each in self._containers if (name := get(each, "name")) is not None]

    @cached_property
    def obstacles(self) -> list[str]:
        """Paths of what a container trial has no place for."""
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
        found = get(self.body, *keys)
        return list(found.items()) if isinstance(found, Mapping) else []

    def _container_obstacles(self, container: Mapping[str, Any]) -> Iterator[str]:
        if not container.get("command"):
            yield "command"
        yield from (key for key in container if key not in (*_KEPT, *_IGNORED))
        for key in ("command", "args"):
            if not all(isinstance(item, str) for item in _items(container.get(key), key)):
                yield key
        for place, item in enumerate(_items(container.get("env"), "env")):
            if not isinstance(get(item, "name"), str) or not isinstance(get(item, "value") or "", str):
                yield f"env[{place}]"
            elif get(item, "valueFrom") is not None and secret_key(item) is None:
                yield f"env[{place}].valueFrom"
        if not isinstance(container.get("resources") or {}, Mapping):
            yield "resources"

    @cached_property
    def placement(self) -> Placement:
        """Where its pod runs, and what is mounted."""
        inject = {_SIDECAR: found} if (found := get(self._template, "metadata", "labels", _SIDECAR)) else {}
        annotations = get(self._template, "metadata", "annotations")
        either = {**inject, **annotations} if isinstance(annotations, Mapping) else annotations or inject
        made = Placement.of(self._pod, self._containers[0], either)
        secrets = {str(get(item, "name")): key for item in self._environment() if (key := secret_key(item))}
        made.of_trials |= {"secrets": secrets} if secrets else {}
        return made

    def _environment(self) -> list[Any]:
        return items(get(self._containers[0], "env"))

    @cached_property
    def container(self) -> dict[str, Any]:
        """The container trial, Katib's placeholders still in it; for a Job without obstacles."""
        found = self._containers[0]
        env: dict[str, str] = {}
        for item in self._environment():
            if "valueFrom" not in item:
                env[item["name"]] = expanded(item.get("value") or "", env)
        parts = {
            "image": found.get("image"),
            "command": [expanded(text, env) for text in found["command"]],
            "args": [expanded(text, env) for text in found.get("args") or ()],
            "env": env,
            "working_dir": found.get("workingDir"),
            "resources": {key: part for key, part in (found.get("resources") or {}).items() if part},
        }
        return {key: part for key, part in parts.items() if part or key == "image"}

    @cached_property
    def timeout(self) -> Any:
        """Seconds that the Job may take; None where it may take any."""
        of_job, of_pod = get(self.body, "spec", "activeDeadlineSeconds"), get(self._pod, "activeDeadlineSeconds")
        return of_pod if of_job is None else of_job

    @cached_property
    def notes(self) -> list[str]:
        """What a container trial does otherwise."""
        return list(self._told())

    def _told(self) -> Iterator[str]:
        if get(self._pod, "restartPolicy") == "OnFailure" or get(self.body, "spec", "backoffLimit"):
            yield "a Job starts a failed pod again; here a trial that fails has failed, see limits.retries"
        for kind in ("labels", "annotations"):
            if found := mapping(get(self.body, "metadata", kind)):
                yield f"left out the Job's {kind} ({', '.join(found)}): the trial is a pod of a Workflow"


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
    """Whether a key of a pod's spec is kept, or says nothing."""
    return key in _POD_KEPT or value in (None, [], {})


def _items(value: Any, key: str) -> list[Any]:
    """The items of a list that may be left out; what is no list is one item, which fits nowhere."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [{key: value}]


def _harmless(key: str, value: Any) -> bool:
    """Whether a key of a Job's spec says nothing that a container trial could not keep."""
    if key in ("completions", "parallelism"):
        return value == 1
    if key in ("suspend", "manualSelector"):
        return not value
    return key in ("template", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "completionMode")


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Text with ``$(NAME)`` as Kubernetes replaces it; a name that there is not stays as it is."""

    def replace(match: re.Match[str]) -> str:
        return env.get(match[1], match[0]) if match[1] else "$"

    return _EXPANDED.sub(replace, text)
