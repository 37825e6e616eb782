"""Write plain data as YAML that Argo parses correctly.

Argo parses YAML 1.1 by Go's rules. PyYAML writes ``n``, ``1e-3`` and ``0o7`` unquoted, which Argo reads as false, 0.001
and 7. Therefore every string that is not a plain word is double-quoted, including keys.
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
        return True  # the Argo CLI does not find a workflow in a file with anchors


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _MEANS_SOMETHING_ELSE
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def write_yaml(data: Mapping[str, Any]) -> str:
    """Write data in block style: ASCII, without anchors or folded lines, the most telling keys first."""
    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": False, "width": 1 << 30, "allow_unicode": False}
    return yaml.dump(_ordered(data), Dumper=_Dumper, **style)


def _ordered(node: Any) -> Any:
    if isinstance(node, Mapping):
        keys = sorted(node, key=lambda key: (_RANK.get(key, 500), key))
        return {key: _ordered(node[key]) for key in keys}
    if isinstance(node, list | tuple):
        return [_ordered(item) for item in node]
    return node
