"""ConfigMaps that a Katib manifest names: who is asked for them, and how they are read from a text."""

from collections.abc import Callable, Mapping
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.spec.yaml12 import load_kind

ConfigMaps = Callable[[str, str], Mapping[str, Any]]
"""From a namespace and a name to the data of the ConfigMap. Raises Absent, NotNow or another KatibFlowError."""


class Absent(KatibFlowError):
    """There is no such ConfigMap where it was looked for; for a person."""


class NotNow(KatibFlowError):
    """Nobody can be asked now, and that is no mistake: the text is looked for when it is needed; for a person, why."""


def nobody(namespace: str, name: str) -> Mapping[str, Any]:
    """Where no ConfigMaps are at hand."""
    raise Absent(
        "no ConfigMap is looked for here: give its manifest by --config-map, or put the template under trialSpec"
    )


def in_text(text: str, source: str) -> ConfigMaps:
    """The ConfigMaps among the objects in a text; one without a namespace stands for any.

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
            raise Absent(f"{source} has it in {', '.join(there)} only" if there else _only(source, read))
        data = there.get(namespace, there.get(""))
        return data if isinstance(data, dict) else {}

    return config_maps


def _only(source: str, names: Mapping[str, Any]) -> str:
    return f"{source} has {', '.join(names)} only" if names else f"{source} has none"


def first_of(*several: ConfigMaps) -> ConfigMaps:
    """One after another is asked, until one has it."""

    def config_maps(namespace: str, name: str) -> Mapping[str, Any]:
        reasons: list[str] = []
        for ask in several:
            try:
                return ask(namespace, name)
            except Absent as absent:
                reasons.append(str(absent))
        raise Absent("; ".join(reasons))

    return config_maps
