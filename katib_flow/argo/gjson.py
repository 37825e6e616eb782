"""The subset of GJSON paths that conditions on the status of Kubernetes objects need, applied to plain data.

    status.phase    items.0.name    names.#    status.conditions.#(type=="Complete")#|#(status=="True")#
    status.[@this].#(phase=="Succeeded")#    pods.#.status.phase    a\\.b    ready*

Grammar: https://github.com/tidwall/gjson/blob/master/SYNTAX.md. Modifiers other than ``@this``, multipath objects
(``{a,b}``), literals (``!``) and ``~`` comparisons are not supported. Katib evaluates its conditions with that library.
"""

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from katib_flow.errors import KatibFlowError

MISSING: Any = object()
_OPERATORS = ("==", "!=", "<=", ">=", "!%", "=", "<", ">", "%")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


class BadPath(KatibFlowError):
    """A path that is invalid, or that uses an unsupported feature."""


def find(data: Any, path: str) -> Any:
    """Return the value at a path, or ``MISSING`` if the data has no such path.

    Raises:
        BadPath: the path is invalid.
    """
    for segment in _split(path, "|"):
        data = _walk(data, list(_split(segment, ".")))
    return data


def met(data: Any, path: str) -> Any:
    """Return what a condition matches (of a list, the first item), or None if the condition is not met."""
    match = find(data, path)
    if match is MISSING or not match:
        return None
    return match[0] if isinstance(match, list) else match


def check(path: str) -> None:
    """Check a path without data.

    Raises:
        BadPath: the path is invalid.
    """
    if not path.strip():
        raise BadPath("the path is empty")
    for segment in _split(path, "|"):
        for part in _split(segment, "."):
            if part.startswith("#("):
                _check_query(part)
            elif part.startswith("["):
                for inner in _split(part[1:-1], ","):
                    check(inner)
            elif part.startswith(("{", "!")) or (part.startswith("@") and part != "@this"):
                raise BadPath(f"{part}: not supported; use keys, positions, #, #(...), #(...)# or @this")


def _check_query(part: str) -> None:
    left, operator, right = _query(part)
    if left:
        check(left)
    if operator and right.startswith("~"):
        raise BadPath(f"{part}: comparisons with ~ are not supported")


def _walk(data: Any, parts: Sequence[str]) -> Any:
    if not parts or data is MISSING:
        return data
    first, rest = parts[0], parts[1:]
    if first == "#":
        if not isinstance(data, list):
            return MISSING
        return _walk_items(data, rest) if rest else len(data)
    if first.startswith("#("):
        if not isinstance(data, list):
            return MISSING
        matching = [item for item in data if _matches(item, first)]
        if first.endswith("#"):
            return _walk_items(matching, rest) if rest else matching
        return _walk(matching[0], rest) if matching else MISSING
    if first == "@this":
        return _walk(data, rest)
    if first.startswith("["):
        values = [find(data, path) for path in _split(first[1:-1], ",")]
        return _walk([value for value in values if value is not MISSING], rest)
    return _walk(_member(data, first), rest)


def _walk_items(items: Sequence[Any], rest: Sequence[str]) -> list[Any]:
    values = [_walk(item, rest) for item in items]
    return [value for value in values if value is not MISSING]


def _member(data: Any, key: str) -> Any:
    if isinstance(data, list):
        return data[int(key)] if key.isdigit() and int(key) < len(data) else MISSING
    if not isinstance(data, dict):
        return MISSING
    plain = key.replace("\\", "")
    if "\\" not in key and ("*" in key or "?" in key):
        pattern = key.replace("[", "[[]")
        return next((value for name, value in data.items() if fnmatchcase(name, pattern)), MISSING)
    return data.get(plain, MISSING)


def _matches(item: Any, part: str) -> bool:
    path, operator, text = _query(part)
    value = find(item, path) if path else item
    if not operator:
        return value is not MISSING
    if value is MISSING:
        return False
    return _compare(value, operator, _literal(text))


def _query(part: str) -> tuple[str, str, str]:
    """Return path, operator and value of ``#(...)`` or ``#(...)#``; without an operator, the path must only exist."""
    text = part.removesuffix("#")
    if not text.endswith(")"):
        raise BadPath(f"{part}: unclosed bracket")
    text = text[2:-1]
    for at in _outside(text):
        for operator in _OPERATORS:
            if text.startswith(operator, at):
                return text[:at].strip(), operator, text[at + len(operator) :].strip()
    return text.strip(), "", ""


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator in ("%", "!%"):
        like = isinstance(left, str) and fnmatchcase(left, str(right).replace("[", "[[]"))
        return like is (operator == "%")
    comparable = type(left) is type(right) or (_is_number(left) and _is_number(right))
    if operator in ("=", "=="):
        return comparable and left == right
    if operator == "!=":
        return not comparable or left != right
    if not comparable or not isinstance(left, int | float | str):
        return False
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _split(text: str, separator: str) -> Iterator[str]:
    """Split a text at the separators that are outside brackets and quotes."""
    start = 0
    for at in _outside(text):
        if text[at] == separator:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _outside(text: str) -> Iterator[int]:
    """Yield the positions that are outside brackets and quotes.

    Raises:
        BadPath: a bracket or a quotation mark is not closed.
    """
    closing: list[str] = []
    quoted = False
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\":
            at += 1
        elif letter == '"' and closing:
            quoted = not quoted
        elif quoted:
            pass
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter in _PAIRS and (letter != "[" or at == 0 or text[at - 1] in ".|,(" or closing):
            closing.append(_PAIRS[letter])
        elif not closing:
            yield at
        at += 1
    if closing or quoted:
        raise BadPath(f"{text}: unclosed bracket or quotation mark")
