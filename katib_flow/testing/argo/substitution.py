"""``{{name}}`` and ``{{=expression}}`` in the texts of a manifest.

Argo replaces in the manifest's JSON with each value quoted, so a value never changes the shape of what it stands in; it
may hold placeholders itself, which the next pass replaces. That is why no text of a user may travel this way.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from katib_flow.testing.argo import expr
from katib_flow.testing.argo.refusal import ExpressionError, Rejected

Node = TypeVar("Node")
Scope = Mapping[str, str]
"""Values by dotted name, such as ``inputs.parameters.k``; always texts."""

_LATE = ("retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message")
_AT_THE_END = ("workflow.status", "workflow.failures")


def substitute(node: Node, scope: Scope) -> Node:
    """The manifest, or part of it, with every placeholder replaced that the scope knows; the others stay.

    Raises:
        Rejected: a placeholder has no end.
    """
    if isinstance(node, str):
        return _text(node, scope) if "{{" in node else node  # type: ignore[return-value]
    if isinstance(node, dict):
        return {substitute(key, scope): substitute(value, scope) for key, value in node.items()}  # type: ignore[return-value]
    if isinstance(node, list):
        return [substitute(each, scope) for each in node]  # type: ignore[return-value]
    return node


def placeholders(node: Any) -> list[str]:
    """What stands between the braces, anywhere in a manifest."""
    if isinstance(node, str):
        return [tag for _, tag in _split(node) if tag is not None] if "{{" in node else []
    if isinstance(node, Mapping):
        return [tag for key, value in node.items() for tag in (*placeholders(key), *placeholders(value))]
    if isinstance(node, list | tuple):
        return [tag for each in node for tag in placeholders(each)]
    return []


def unresolved(node: Any, *prefixes: str) -> list[str]:
    """Placeholders that are still there and begin with one of the prefixes; names in expressions count."""
    found: list[str] = []
    for tag in placeholders(node):
        read = expr.names(tag[1:]) if tag.startswith("=") else [tag.strip()]
        found += [name for name in read if name.startswith(prefixes)]
    return found


def _split(text: str) -> list[tuple[str, str | None]]:
    """(text before, placeholder) pairs; the last has none."""
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
        return f"{{{{{before}{scope[nested.strip()]}"  # the outer one, whose end follows, is for the next pass
    return f"{{{{{tag}}}}}"


def _expression(tag: str, scope: Scope) -> str:
    """An expression's value, a text as it is and anything else as JSON; as it stands while it cannot be told."""
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
    """A scope as the nested maps that an expression reads."""
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
            continue  # tasks.x.outputs.parameters is both a text and a map: expressions see the map
        level[last] = value
    return env
