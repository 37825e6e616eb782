"""Encodes names, texts and numbers in a form that every MLflow store accepts, and decodes them.

MLflow refuses most characters in the name of a param or metric, and paths that are not normalised (``a//b``). Such a
character becomes its code point between colons: ``val/acc@5`` is recorded as ``val/acc:40:5``. A colon is always
escaped, so decoding is unambiguous. Values of params are for people; exact values are JSON in tags.
"""

import hashlib
import json
import math
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from katib_flow.foreign import first_of_json

MAX_NAME = 250
MAX_PARAM = 6000
MAX_TAG = 4500
"""Characters per tag: older MLflow servers allow 5000."""

_REFUSED = re.compile(r"[^/\w.\- ]")
_ESCAPED = re.compile(r":([0-9A-F]*):")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # PostgreSQL refuses NUL, and UTF-8 lone surrogates
_HUGE = 1.7976931348623157e308  # MLflow's SQL store writes this for infinity


def _escaped(match: re.Match[str]) -> str:
    return f":{ord(match[0]):X}:"


@lru_cache(maxsize=4096)
def escape(name: str) -> str:
    """A name that MLflow accepts; different names stay different.

    The end of a name of more than ``MAX_NAME`` characters is replaced by a hash; ``unescape`` cannot restore it.
    """
    text = _REFUSED.sub(_escaped, name) if name else "::"
    if posixpath.normpath(text) != text or text.startswith(("/", ".")):
        text = re.sub(r"/|^\.", _escaped, text)
    if len(text) > MAX_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        text = f"{text[: MAX_NAME - 20].rstrip(':')}-{digest}"
    return text


@lru_cache(maxsize=4096)
def unescape(text: str) -> str:
    """The name that ``escape`` encoded; in a text that others wrote, anything that is not a code point stays."""
    return _ESCAPED.sub(_unescaped, text) if ":" in text else text


def _unescaped(match: re.Match[str]) -> str:
    if not match[1]:
        return ""
    code = int(match[1], 16) if len(match[1]) <= 6 else sys.maxunicode + 1
    return chr(code) if code <= sys.maxunicode else match[0]


def readable(text: str, limit: int) -> str:
    """A text for people: characters that no store accepts are replaced, and an ellipsis ends it at ``limit``."""
    text = _UNSTORABLE.sub("\ufffd", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def chunked(key: str, text: str) -> Iterator[tuple[str, str]]:
    """The tags ``key``, ``key.1``, ``key.2`` ... that hold a text, in parts of ``MAX_TAG`` characters."""
    yield key, text[:MAX_TAG]
    for number, start in enumerate(range(MAX_TAG, len(text), MAX_TAG), start=1):
        yield f"{key}.{number}", text[start : start + MAX_TAG]


def json_tags(key: str, data: object) -> dict[str, str]:
    """The tags that hold plain data as JSON, in ASCII, so that every store counts the same number of characters."""
    return dict(chunked(key, json.dumps(data, separators=(",", ":"))))


def read_json(key: str, tags: Mapping[str, str]) -> Any:
    """The data that ``json_tags`` encoded; None if there is no such tag.

    Text after the JSON is ignored: when data became shorter, its last tags are left behind.

    Raises:
        ValueError: the text is not JSON.
    """
    parts = [tags.get(key, "")]
    if not parts[0]:
        return None
    while (part := tags.get(f"{key}.{len(parts)}")) is not None:
        parts.append(part)
    return first_of_json("".join(parts))


def number_out(value: float) -> float | str:
    """A number for strict JSON: NaN and the infinities become text."""
    return value if math.isfinite(value) else str(float(value))


def metric_in(value: object) -> float:
    """Decode a metric from MLflow's SQL store, which returns the largest number for infinity.

    Raises:
        ValueError: the store holds something else than a number; SQLite has no types for columns.
    """
    if not isinstance(value, int | float):
        raise ValueError(f"found {value!r} as a value, need a number")  # noqa: TRY004 - it is the data that is wrong
    return math.copysign(math.inf, value) if abs(value) >= _HUGE else value


def metric_out(value: float) -> tuple[float, bool]:
    """Encode a metric for MLflow's SQL store: its number, and whether it is NaN."""
    if math.isnan(value):
        return 0.0, True
    return (math.copysign(_HUGE, value) if math.isinf(value) else value), False
