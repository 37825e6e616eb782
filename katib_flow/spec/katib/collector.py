"""``customCollector`` of a Katib manifest -> ``metrics.container``."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from katib_flow.spec.katib import manifest
from katib_flow.spec.katib.draft import Draft, get, items, mapping
from katib_flow.spec.katib.job import expanded
from katib_flow.spec.katib.substitution import escaped
from katib_flow.spec.problems import NOTHING, shown

AT = "spec.metricsCollectorSpec.collector.customCollector"
_FIELDS = {"metadata.name": "\0trial.name\0-0", "metadata.namespace": "\0trial.namespace\0"}
"""The fields of the pod that a variable may refer to. Katib names a pod after its trial, with a random suffix.

A name between NULs, which no text contains, becomes a placeholder once everything else is escaped.
"""
_NAMED = re.compile(r"\0(.*?)\0")
_KEPT = ("image", "command", "args", "env", "workingDir", "resources")
_IGNORED = ("name", "ports", "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy")


def custom(draft: Draft, read: manifest.MetricsCollector) -> dict[str, Any]:
    """The source, path and container of ``metrics`` for a Custom collector."""
    container = read.collector.custom_collector
    if container is None:
        need = "the container that reads the metrics, because the collector is Custom"
        draft.wrong(AT, NOTHING, need, unsound=["metrics"])
        return {"source": "stdout"}
    for key in container:
        if key not in (*_KEPT, *_IGNORED):
            need = f"one of {', '.join(_KEPT)}; the directory of fileSystemPath is mounted by itself"
            draft.wrong(f"{AT}.{key}", shown(container[key]), need, unsound=["metrics"])
    env = _environment(draft, container)
    draft.came("metrics.container", AT, below=True)
    draft.came("metrics.container.working_dir", f"{AT}.workingDir")
    parts = {
        "image": container.get("image"),
        "command": _texts(container.get("command"), env),
        "args": _texts(container.get("args"), env),
        "env": {name: _literal(text) for name, text in env.items()},
        "working_dir": container.get("workingDir"),
        "resources": {key: part for key, part in mapping(container.get("resources")).items() if part},
    }
    fields = {key: part for key, part in parts.items() if part}
    return {"source": "custom", **_path(read), "container": {**fields, "starts": "with-trial"}}


def _path(read: manifest.MetricsCollector) -> dict[str, Any]:
    """The directory that the trial and the collector share."""
    file = read.source.file_system_path
    if not file.path:
        return {}
    path = PurePosixPath(file.path)
    return {"path": str(path if file.kind == "Directory" else path.parent)}


def _environment(draft: Draft, container: dict[str, Any]) -> dict[str, str]:
    """The environment variables, not yet escaped."""
    env: dict[str, str] = {}
    for position, item in enumerate(items(container.get("env"))):
        name, field = get(item, "name"), get(item, "valueFrom", "fieldRef", "fieldPath")
        if not isinstance(name, str):
            draft.wrong(f"{AT}.env[{position}].name", shown(name), "the name of a variable", unsound=["metrics"])
        elif get(item, "valueFrom") is None:
            env[name] = expanded(str(get(item, "value") or ""), env)
        elif field in _FIELDS:
            env[name] = _FIELDS[field]
            if field == "metadata.name":
                text = "not the name of the pod itself, but one that begins with the trial's, as pod names do in Katib"
                draft.note(f"metrics.container.env.{name}", text)
        else:
            need = f"a value, or a fieldRef of {' or '.join(_FIELDS)}"
            draft.wrong(f"{AT}.env[{position}].valueFrom", shown(get(item, "valueFrom")), need, unsound=["metrics"])
    return env


def _texts(written: Any, env: Mapping[str, str]) -> Any:
    """The words of a command as they reach the program in Katib; invalid data is returned unchanged, to be refused."""
    if not isinstance(written, list | tuple):
        return written
    return [_literal(expanded(text, env)) if isinstance(text, str) else text for text in written]


def _literal(text: str) -> str:
    """Escape a text, except for references to fields of the pod."""
    return _NAMED.sub(r"${\1}", escaped(text))
