"""Look up the ConfigMaps that a Katib manifest names."""

from collections.abc import Callable, Mapping
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.spec.yaml12 import load_kind

ConfigMaps = Callable[[str, str], Mapping[str, Any]]
"""Maps a namespace and a name to the data of the ConfigMap; raises Absent, NotNow or another KatibFlowError."""


class Absent(KatibFlowError):
    """No such ConfigMap was found; the message says where it was looked for."""


class NotNow(KatibFlowError):
    """ConfigMaps cannot be looked up now, which is no mistake: it is done when one is needed. The message says why."""


def nobody(namespace: str, name: str) -> Mapping[str, Any]:
    """The lookup where no ConfigMaps are available: always raises Absent."""
    raise Absent(
        "no ConfigMap is available here: pass its manifest with --config-map, or put the template under trialSpec"
    )


def in_text(text: str, source: str) -> ConfigMaps:
    """Look up ConfigMaps among the objects in a YAML text; one without a namespace matches any.

    Raises:
        KatibFlowError: the text is not YAML, or a ConfigMap in it has no name.
    """
    read: dict[str, dict[str, Any]] = {}
    for manifest in load_kind(text, source, "ConfigMap"):
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str):
            raise KatibFlowError(f"{source}: metadata.name of a ConfigMap: found {name!r}, need its name")
        read.setdefault(name, {})[str(metadata.get("namespace") or "")] = manifest.get("data")

    def config_maps(namespace: str, name: str) -> Mapping[str, Any]:
        there = read.get(name, {})
        if namespace not in there and "" not in there:
            raise Absent(f"{source} has it only in {', '.join(there)}" if there else _only(source, read))
        data = there.get(namespace, there.get(""))
        return data if isinstance(data, dict) else {}

    return config_maps


def _only(source: str, names: Mapping[str, Any]) -> str:
    return f"{source} has only {', '.join(names)}" if names else f"{source} has no ConfigMap"


def first_of(*several: ConfigMaps) -> ConfigMaps:
    """Try several lookups in order; if all of them raise Absent, raise it with all of their reasons."""

    def config_maps(namespace: str, name: str) -> Mapping[str, Any]:
        reasons: list[str] = []
        for ask in several:
            try:
                return ask(namespace, name)
            except Absent as absent:
                reasons.append(str(absent))
        raise Absent("; ".join(reasons))

    return config_maps
