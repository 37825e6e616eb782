"""Write a spec as YAML for people: short parts on one line, and comments before the parts that they describe."""

import re
from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import Any

import yaml

from katib_flow.spec.load import Note
from katib_flow.spec.yaml12 import dump_yaml, load_yaml, write_yaml

SHORT, WIDTH = 90, 110


def write_spec(data: Mapping[str, Any], notes: Iterable[Note] = (), header: str = "") -> str:
    """Plain data as YAML that reads back the same.

    Args:
        notes: comments, each written before the part of the spec that it describes.
        header: a comment at the beginning, whose line breaks are kept.
    """
    root = load_yaml(dump_yaml(data)).root
    _in_short(root)
    document = load_yaml(text := write_yaml(root))
    comments: dict[int, list[str]] = {}
    for note in notes:
        comments.setdefault(document.line(note.where) - 1, []).append(note.text)
    written = [f"# {line}".rstrip() for line in header.splitlines()]
    for number, line in enumerate(text.splitlines()):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        written += [
            f"{indent}# {part}" for comment in comments.get(number, ()) for part in wrap(comment, WIDTH - len(indent))
        ]
        written.append(line)
    return "\n".join(written) + "\n"


def _in_short(node: yaml.Node, depth: int = 0) -> int:
    """Choose the layout of a tree: short collections of scalars on one line, long text as literal blocks.

    Returns:
        The number of characters that the node takes on one line.
    """
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    lengths = [_in_short(part, depth + 1) for part in parts]
    length, words = sum(lengths) + 2 * len(lengths), isinstance(node, yaml.SequenceNode) and max(lengths, default=0) < 8
    section = isinstance(node, yaml.MappingNode) and depth == 1 and any(map(_is_scalar, parts[1::2]))
    flat = all(_is_scalar(part) or not part.value or (section and _is_flat(part)) for part in parts)
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = depth > 0 and (length <= SHORT or words) and flat
    return length


def _scalar(node: yaml.ScalarNode) -> int:
    if "\n" in node.value:
        node.style = "|"
        return 10_000
    if "'" in node.value and not re.search(r'["\\]', node.value):
        node.style = '"'
    return len(node.value) + 2


def _is_scalar(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)


def _is_flat(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) and node.flow_style is True
