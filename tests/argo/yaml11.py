"""A reader of YAML, as strict as Argo's is lax: a plain scalar must be a word, a number or a boolean to everyone."""

import re
from typing import Any

import yaml

WORD = re.compile(r"[A-Za-z][A-Za-z./-]*")
NUMBER = re.compile(r"0|[1-9][0-9]*")  # no octal, no exponent, no sexagesimal, no underscore
MEANS_MORE = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}  # any case, by YAML 1.1 or Go


def scalars(text: str) -> list[yaml.ScalarNode]:
    """Every scalar, keys included; refuses anchors, aliases and tags."""
    events = list(yaml.parse(text, Loader=yaml.SafeLoader))
    assert not any(getattr(event, "anchor", None) for event in events), "Argo's command line reads no anchors"
    nodes: list[yaml.ScalarNode] = []
    waiting: list[Any] = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            nodes.append(node)
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value
    return nodes


def ambiguous(text: str) -> list[str]:
    """Plain scalars that some reader takes for something else."""

    def clear(value: str) -> bool:
        if value in ("true", "false") or NUMBER.fullmatch(value):
            return True
        return bool(WORD.fullmatch(value)) and value.lower() not in MEANS_MORE

    return [node.value for node in scalars(text) if node.style is None and not clear(node.value)]
