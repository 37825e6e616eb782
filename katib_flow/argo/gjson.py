"""GJSON paths on plain data, as far as conditions on the status of Kubernetes objects need them.

    status.phase    items.0.name    names.#    status.conditions.#(type=="Complete")#|#(status=="True")#
    status.[@this].#(phase=="Succeeded")#    pods.#.status.phase    a\\.b    ready*

Grammar: https://github.com/tidwall/gjson/blob/master/SYNTAX.md. Not here: modifiers but ``@this``, objects of paths
(``{a,b}``), literals (``!``), ``~`` comparisons. Katib reads its conditions with that library.
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
    """Not a path that this module knows."""


def find(data: Any, path: str) -> Any:
    """What a path finds, ``MISSING`` where it finds nothing.

    Raises:
        BadPath: it is not a path.
    """
    for segment in _split(path, "|"):
        data = _walk(data, list(_split(segment, ".")))
    return data


def met(data: Any, path: str) -> Any:
    """What a condition finds where it is met: the first of a list; None where it is not met."""
    found = find(data, path)
    if found is MISSING or not found:
        return None
    return found[0] if isinstance(found, list) else found


def check(path: str) -> None:
    """Raise BadPath where ``find`` would, whatever the data."""
    if not path.strip():
        raise BadPath("an empty path")
    for segment in _split(path, "|"):
        for part in _split(segment, "."):
            if part.startswith("#("):
                _check_query(part)
            elif part.startswith("["):
                for inner in _split(part[1:-1], ","):
                    check(inner)
            elif part.startswith(("{", "!")) or (part.startswith("@") and part != "@this"):
                raise BadPath(f"{part}: not known here; keys, positions, #, #(...), #(...)# and @this are")


def _check_query(part: str) -> None:
    left, operator, right = _query(part)
    if left:
        check(left)
    if operator and right.startswith("~"):
        raise BadPath(f"{part}: comparisons with ~ are not known here")


def _walk(data: Any, parts: Sequence[str]) -> Any:
    if not parts or data is MISSING:
        return data
    first, rest = parts[0], parts[1:]
    if first == "#":
        if not isinstance(data, list):
            return MISSING
        return _each(data, rest) if rest else len(data)
    if first.startswith("#("):
        if not isinstance(data, list):
            return MISSING
        matching = [each for each in data if _matches(each, first)]
        if first.endswith("#"):
            return _each(matching, rest) if rest else matching
        return _walk(matching[0], rest) if matching else MISSING
    if first == "@this":
        return _walk(data, rest)
    if first.startswith("["):
        found = [find(data, path) for path in _split(first[1:-1], ",")]
        return _walk([each for each in found if each is not MISSING], rest)
    return _walk(_member(data, first), rest)


def _each(items: Sequence[Any], rest: Sequence[str]) -> list[Any]:
    found = [_walk(each, rest) for each in items]
    return [each for each in found if each is not MISSING]


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
    found = find(item, path) if path else item
    if not operator:
        return found is not MISSING
    if found is MISSING:
        return False
    return _compare(found, operator, _value(text))


def _query(part: str) -> tuple[str, str, str]:
    """Path, operator and value of ``#(...)`` or ``#(...)#``; no operator where it only asks whether it is there."""
    text = part.removesuffix("#")
    if not text.endswith(")"):
        raise BadPath(f"{part}: a bracket that is not closed")
    text = text[2:-1]
    for at in _outside(text):
        for operator in _OPERATORS:
            if text.startswith(operator, at):
                return text[:at].strip(), operator, text[at + len(operator) :].strip()
    return text.strip(), "", ""


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _compare(found: Any, operator: str, value: Any) -> bool:
    if operator in ("%", "!%"):
        like = isinstance(found, str) and fnmatchcase(found, str(value).replace("[", "[[]"))
        return like is (operator == "%")
    same = type(found) is type(value) or (_number(found) and _number(value))
    if operator in ("=", "=="):
        return same and found == value
    if operator == "!=":
        return not same or found != value
    if not same or not isinstance(found, int | float | str):
        return False
    return {"<": found < value, "<=": found <= value, ">": found > value, ">=": found >= value}[operator]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _split(text: str, separator: str) -> Iterator[str]:
    """Parts of a text, divided where the separator stands outside of brackets and quotes."""
    start = 0
    for at in _outside(text):
        if text[at] == separator:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _outside(text: str) -> Iterator[int]:
    """The places that are in no bracket and no quotes.

    Raises:
        BadPath: one is not closed.
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
        raise BadPath(f"{text}: a bracket or a quotation mark that is not closed")
