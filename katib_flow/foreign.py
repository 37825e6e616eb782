"""Read untrusted data, from a store, a trial or an environment, which may be damaged or malicious."""

import json
import re
from typing import Any, TypeGuard

from katib_flow.history import Metric

MAX_DEPTH = 100
"""Levels of nesting: deeper data could be read, but then neither written, copied nor shown."""

END_OF_TIME = 253_402_300_800
"""The year 10000 in seconds since the epoch: Python's calendar ends before it."""
_LARGEST = 2**63 - 1  # the largest integer in a database
_MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_DECODER = json.JSONDecoder()


def from_json(text: object) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: the value is not JSON text, or nests more than 100 levels.
    """
    return json.loads(_bounded(text))


def first_of_json(text: str) -> Any:
    """Parse the JSON at the beginning of a text, ignoring the rest.

    Raises:
        ValueError: as in ``from_json``.
    """
    return _DECODER.raw_decode(_bounded(text))[0]


def _bounded(text: object) -> str:
    """The text, after checking its depth of nesting."""
    if not isinstance(text, str):
        raise ValueError(f"found {text!r}, need text")  # noqa: TRY004 - it is the data that is wrong
    if text.count("[") + text.count("{") > MAX_DEPTH:
        depth = 0
        for match in _MARKS.finditer(text):
            depth += 1 if match[0] in "[{" else -1 if match[0] in "]}" else 0
            if depth > MAX_DEPTH:
                raise ValueError(f"found more than {MAX_DEPTH} levels of nesting")
    return text


def number_of(value: object) -> float:
    """Convert a number from JSON, in which NaN and the infinities are text, to a float.

    Raises:
        ValueError: the value is not a number, or beyond the range of floats.
    """
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError(f"found {value!r}, need a number")  # noqa: TRY004 - it is the data that is wrong
    try:
        return float(value)
    except OverflowError:
        raise ValueError("found a number beyond the range of a float") from None


def _counts(value: object) -> TypeGuard[int]:
    """True for a whole number that a database can store."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def metric_of(name: object, value: float | tuple[float, ...], step: object, timestamp_ms: object) -> Metric:
    """Build a metric from untrusted parts.

    Raises:
        ValueError: a part has the wrong type, or is out of range.
    """
    if not isinstance(name, str):
        raise ValueError(f"found {name!r} as the name of a metric, need text")  # noqa: TRY004 - it is the data that is wrong
    if not _counts(step):
        raise ValueError(f"{name}: found {step!r} as a step, need a 64-bit integer")
    if not _counts(timestamp_ms):
        raise ValueError(f"{name}: found {timestamp_ms!r} as a time, need milliseconds since 1970")
    return Metric(name, value, step, timestamp_ms)
