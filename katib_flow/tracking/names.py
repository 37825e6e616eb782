"""Names, texts and numbers in a form that every MLflow store takes, and back.

MLflow refuses most characters in the name of a param or metric, and paths that do not stand for themselves (``a//b``).
Such a character becomes its code point between colons: ``val/acc@5`` is recorded as ``val/acc:40:5``. A colon is always
escaped, so the way back is unambiguous. Values of params are for reading; what must read back exactly is JSON in tags.
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
"""Characters to a tag: older MLflow servers stop at 5000."""

_REFUSED = re.compile(r"[^/\w.\- ]")
_ESCAPED = re.compile(r":([0-9A-F]*):")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL is refused by PostgreSQL, a lone surrogate by UTF-8
_HUGE = 1.7976931348623157e308  # what MLflow's SQL store writes for infinity


def _escaped(match: re.Match[str]) -> str:
    return f":{ord(match[0]):X}:"


@lru_cache(maxsize=4096)
def escape(name: str) -> str:
    """A name that MLflow takes; different names stay different.

    A name that is too long is cut, with a hash in the place of the rest, and then does not unescape to itself.
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
    """The name of ``escape``; of a text that others wrote, what is no code point stays as it is."""
    return _ESCAPED.sub(_unescaped, text) if ":" in text else text


def _unescaped(match: re.Match[str]) -> str:
    if not match[1]:
        return ""
    code = int(match[1], 16) if len(match[1]) <= 6 else sys.maxunicode + 1
    return chr(code) if code <= sys.maxunicode else match[0]


def readable(text: str, limit: int) -> str:
    """Text for people: what no store takes is replaced, and what is too long is cut with an ellipsis."""
    text = _UNSTORABLE.sub("\ufffd", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def chunked(key: str, text: str) -> Iterator[tuple[str, str]]:
    """The tags ``key``, ``key.1``, ``key.2`` ... that hold a text."""
    yield key, text[:MAX_TAG]
    for number, start in enumerate(range(MAX_TAG, len(text), MAX_TAG), start=1):
        yield f"{key}.{number}", text[start : start + MAX_TAG]


def json_tags(key: str, data: object) -> dict[str, str]:
    """The tags that hold plain data as JSON, in ASCII so that a character counts the same in every store."""
    return dict(chunked(key, json.dumps(data, separators=(",", ":"))))


def read_json(key: str, tags: Mapping[str, str]) -> Any:
    """The data of ``json_tags``; None where there is none.

    What follows the JSON is not read: a text that grew shorter leaves its last chunks behind.

    Raises:
        ValueError: it is no JSON.
    """
    parts = [tags.get(key, "")]
    if not parts[0]:
        return None
    while (part := tags.get(f"{key}.{len(parts)}")) is not None:
        parts.append(part)
    return first_of_json("".join(parts))


def number_out(value: float) -> float | str:
    """A number as strict JSON has it: NaN and the infinities are text."""
    return value if math.isfinite(value) else str(float(value))


def metric_in(value: float) -> float:
    """A metric as MLflow's SQL store gives it: infinity comes back as the largest number."""
    return math.copysign(math.inf, value) if abs(value) >= _HUGE else value


def metric_out(value: float) -> tuple[float, bool]:
    """A metric as MLflow's SQL store keeps it, and whether it is NaN."""
    if math.isnan(value):
        return 0.0, True
    return (math.copysign(_HUGE, value) if math.isinf(value) else value), False
