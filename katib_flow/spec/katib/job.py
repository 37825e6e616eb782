"""A batch/v1 Job -> a container trial, where it holds no more than that can express."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from katib_flow.spec.katib.draft import get

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
    def _pod(self) -> Any:
        return get(self.body, "spec", "template", "spec")

    @cached_property
    def _containers(self) -> list[Any]:
        found = get(self._pod, "containers")
        return list(found) if isinstance(found, list | tuple) else []

    @cached_property
    def container_names(self) -> list[str]:
        return [str(name) for each in self._containers if (name := get(each, "name")) is not None]

    @cached_property
    def obstacles(self) -> list[str]:
        """Paths of what a container trial has no place for."""
        return list(self._obstacles())

    def _obstacles(self) -> Iterator[str]:
        yield from (f"spec.{key}" for key, value in self._of("spec") if not _harmless(key, value))
        for kind in ("labels", "annotations"):
            if set(get(self.body, "spec", "template", "metadata", kind) or {}) - {_SIDECAR}:
                yield f"spec.template.metadata.{kind}"
        for key, value in self._of("spec", "template", "spec"):
            if key not in ("containers", "restartPolicy", "activeDeadlineSeconds") and value not in (None, [], {}):
                yield f"{_POD}.{key}"
        if len(self._containers) != 1:
            yield f"{_POD}.containers"
            return
        yield from (f"{self.container_path}.{key}" for key in self._container_obstacles(self._containers[0]))

    def _of(self, *keys: str) -> list[tuple[str, Any]]:
        found = get(self.body, *keys)
        return list(found.items()) if isinstance(found, Mapping) else []

    def _container_obstacles(self, container: Any) -> Iterator[str]:
        if not isinstance(container, Mapping):
            return
        if not container.get("command"):
            yield "command"
        for key in container:
            if key not in ("name", "image", "command", "args", "env", "resources", "workingDir", *_IGNORED):
                yield key
        for key in ("command", "args"):
            if not all(isinstance(item, str) for item in _items(container.get(key), key)):
                yield key
        for place, item in enumerate(_items(container.get("env"), "env")):
            if not isinstance(get(item, "name"), str) or not isinstance(get(item, "value") or "", str):
                yield f"env[{place}]"
            elif get(item, "valueFrom") is not None:
                yield f"env[{place}].valueFrom"
        if not isinstance(container.get("resources") or {}, Mapping):
            yield "resources"

    @cached_property
    def container(self) -> dict[str, Any]:
        """The container trial, Katib's placeholders still in it; for a Job without obstacles."""
        found = self._containers[0]
        env: dict[str, str] = {}
        for item in found.get("env") or ():
            env[item["name"]] = _expanded(item.get("value") or "", env)
        parts = {
            "image": found.get("image"),
            "command": [_expanded(text, env) for text in found["command"]],
            "args": [_expanded(text, env) for text in found.get("args") or ()],
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
            if found := get(self.body, "metadata", kind):
                yield f"left out the Job's {kind} ({', '.join(found)}): the trial is a pod of a Workflow"
            if _SIDECAR in (get(self.body, "spec", "template", "metadata", kind) or {}):
                yield f"left out {_SIDECAR}: whether the pods of Workflows get sidecars is up to the namespace"
        if policy := get(self._containers[0], "imagePullPolicy"):
            yield f"left out imagePullPolicy: {policy}"


_IGNORED = ("imagePullPolicy", "ports", "terminationMessagePath", "terminationMessagePolicy")


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


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """Text with ``$(NAME)`` as Kubernetes replaces it; a name that there is not stays as it is."""

    def replace(match: re.Match[str]) -> str:
        return env.get(match[1], match[0]) if match[1] else "$"

    return _EXPANDED.sub(replace, text)
