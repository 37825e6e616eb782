"""``{{name}}`` and ``{{=expression}}`` in the strings of a manifest.

Argo substitutes quoted values in the manifest's JSON, so a value never changes the structure around it. But it may
contain placeholders itself, which the next pass replaces; therefore no text of a user may be passed this way.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.refusal import ExpressionError, Rejected

Node = TypeVar("Node")
Scope = Mapping[str, str]
"""Values, always strings, by dotted name such as ``inputs.parameters.k``."""

_LATE = ("retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message")
_AT_THE_END = ("workflow.status", "workflow.failures")


def substitute(node: Node, scope: Scope) -> Node:
    """A manifest, or a part of it, with the placeholders in the scope replaced; others stay.

    Raises:
        Rejected: a placeholder has no end.
    """
    if isinstance(node, str):
        return _text(node, scope) if "{{" in node else node  # type: ignore[return-value]
    if isinstance(node, dict):
        return {substitute(key, scope): substitute(value, scope) for key, value in node.items()}  # type: ignore[return-value]
    if isinstance(node, list):
        return [substitute(entry, scope) for entry in node]  # type: ignore[return-value]
    return node


def placeholders(node: Any) -> list[str]:
    """The texts between the braces of all placeholders in a manifest."""
    if isinstance(node, str):
        return [tag for _, tag in _split(node) if tag is not None] if "{{" in node else []
    if isinstance(node, Mapping):
        return [tag for key, value in node.items() for tag in (*placeholders(key), *placeholders(value))]
    if isinstance(node, list | tuple):
        return [tag for entry in node for tag in placeholders(entry)]
    return []


def unresolved(node: Any, *prefixes: str) -> list[str]:
    """The names in the remaining placeholders, including expressions, that begin with one of the prefixes."""
    missing: list[str] = []
    for tag in placeholders(node):
        read = expr.names(tag[1:]) if tag.startswith("=") else [tag.strip()]
        missing += [name for name in read if name.startswith(prefixes)]
    return missing


def _split(text: str) -> list[tuple[str, str | None]]:
    """Pairs of a text and the placeholder after it, which is None for the last text."""
    parts: list[tuple[str, str | None]] = []
    position = 0
    while (start := text.find("{{", position)) >= 0:
        end = text.find("}}", start + 2)
        if end < 0:
            raise Rejected(f"cannot find end tag {'}}'!r} in {text[start : start + 80]!r}")
        parts.append((text[position:start], text[start + 2 : end]))
        position = end + 2
    parts.append((text[position:], None))
    return parts


def _text(text: str, scope: Scope) -> str:
    pieces: list[str] = []
    for before, tag in _split(text):
        pieces.append(before)
        if tag is not None:
            pieces.append(_expression(tag, scope) if tag.startswith("=") else _simple(tag, scope))
    return "".join(pieces)


def _simple(tag: str, scope: Scope) -> str:
    name = tag.strip()
    if name in scope:
        return scope[name]
    before, inner, nested = tag.rpartition("{{")
    if inner and nested.strip() in scope:
        return f"{{{{{before}{scope[nested.strip()]}"  # the next pass replaces the outer one, whose end follows
    return f"{{{{{tag}}}}}"


def _expression(tag: str, scope: Scope) -> str:
    """The value of an expression, as JSON unless it is a string; the placeholder while the value is unknown."""
    source, kept = tag[1:], f"{{{{{tag}}}}}"
    read = expr.names(source)
    if any(name in read and name not in scope for name in (*_LATE, *_AT_THE_END)):
        return kept
    if any((name == "item" or name.startswith("item.")) and name not in scope for name in read):
        return kept
    try:
        value = expr.evaluate(source, expanded(scope))
    except ExpressionError:
        return kept
    if value is None:
        return kept
    return value if isinstance(value, str) else expr.to_json(value)


def expanded(scope: Mapping[str, Any]) -> dict[str, Any]:
    """A scope as nested maps, as an expression reads it."""
    env: dict[str, Any] = {}
    for name, value in scope.items():
        level = env
        *path, last = name.split(".")
        for part in path:
            inner = level.get(part)
            if not isinstance(inner, dict):
                inner = level[part] = {} if inner is None else {"": inner}
            level = inner
        if isinstance(level.get(last), dict):
            continue  # tasks.x.outputs.parameters is both a string and a map: expressions see the map
        level[last] = value
    return env
