"""Plain data -> YAML that Argo reads as it was meant.

Argo reads YAML 1.1 by Go's rules and PyYAML writes by its own: left to itself, PyYAML writes ``n``, ``1e-3`` and
``0o7`` unquoted, and Argo then reads false, 0.001 and 7. So every text that is not a plain word is double-quoted, keys
included.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

_PLAIN = re.compile(r"[A-Za-z][A-Za-z-]*(?:[./][A-Za-z][A-Za-z-]*)*")
_MEANS_SOMETHING_ELSE = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"))
_FIRST = (
    *("apiVersion", "kind", "name", "metadata", "spec", "generateName", "namespace", "template", "inputs", "depends"),
    *("when", "entrypoint", "onExit", "serviceAccountName", "automountServiceAccountToken", "executor", "podSpecPatch"),
    *("securityContext", "arguments", "podMetadata", "podGC", "parallelism", "activeDeadlineSeconds", "retryStrategy"),
    *("dag", "steps", "withParam", "withSequence", "continueOn", "image", "command", "args", "env", "envFrom"),
    *("initContainers", "container", "sidecars"),
)
_LAST = ("templates", "volumeMounts", "volumes", "outputs")
_RANK = {key: rank for rank, key in enumerate(_FIRST)} | {key: 1000 + rank for rank, key in enumerate(_LAST)}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the Argo CLI finds no workflow in a file with anchors


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _MEANS_SOMETHING_ELSE
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def write_yaml(data: Mapping[str, Any]) -> str:
    """Block style, ASCII only, no anchors, no folded lines, keys in the order in which a person looks for them."""
    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": False, "width": 1 << 30, "allow_unicode": False}
    return yaml.dump(_ordered(data), Dumper=_Dumper, **style)


def _ordered(node: Any) -> Any:
    if isinstance(node, Mapping):
        keys = sorted(node, key=lambda key: (_RANK.get(key, 500), key))
        return {key: _ordered(node[key]) for key in keys}
    if isinstance(node, list | tuple):
        return [_ordered(each) for each in node]
    return node
