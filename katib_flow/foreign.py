"""What somebody else wrote: a store, a trial, an environment. It may be damaged, or meant to do harm."""

import json
import re
from typing import Any, TypeGuard

from katib_flow.history import Metric

MAX_DEPTH = 100
"""Levels of nesting: what is deeper can be read, and then neither be written, copied nor shown."""

END_OF_TIME = 253_402_300_800
"""Seconds since the epoch, the year 10000: no calendar here goes on."""
_LARGEST = 2**63 - 1  # what a database keeps
_MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_DECODER = json.JSONDecoder()


def from_json(text: object) -> Any:
    """The data of a JSON text.

    Raises:
        ValueError: it is none, or too many levels are nested in it.
    """
    return json.loads(_bounded(text))


def first_of_json(text: str) -> Any:
    """The data of a text that begins with JSON; what follows that is not read.

    Raises:
        ValueError: as of ``from_json``.
    """
    return _DECODER.raw_decode(_bounded(text))[0]


def _bounded(text: object) -> str:
    """The text, where so few levels are nested in it that it may be read."""
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
    """A number that JSON has; NaN and the infinities are text there.

    Raises:
        ValueError: it is none, or no float comes near to it.
    """
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError(f"found {value!r}, need a number")  # noqa: TRY004 - it is the data that is wrong
    try:
        return float(value)
    except OverflowError:
        raise ValueError("found a number of too many digits") from None


def _counts(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number that a database keeps."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def metric_of(name: object, value: float | tuple[float, ...], step: object, timestamp_ms: object) -> Metric:
    """A metric of parts that somebody else wrote.

    Raises:
        ValueError: they are none of one.
    """
    if not isinstance(name, str):
        raise ValueError(f"found {name!r} as a metric's name, need text")  # noqa: TRY004 - it is the data that is wrong
    if not _counts(step):
        raise ValueError(f"{name}: found {step!r} as a step, need a whole number of 64 bits")
    if not _counts(timestamp_ms):
        raise ValueError(f"{name}: found {timestamp_ms!r} as a time, need milliseconds since 1970")
    return Metric(name, value, step, timestamp_ms)
