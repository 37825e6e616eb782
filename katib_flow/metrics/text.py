"""Parses metrics in log lines: ``name=value`` pairs, or objects in JSON or as Python prints a dict.

A line may carry a step (``step=3``) and, at its start, a time (RFC 3339). A value may be a vector (``stats=[1,2,3]``).
Values without a step are numbered per metric. Only metrics that the experiment names are taken. Text that continues
after a number (``1,234.5``, ``3/4``, or ``5e-05`` if a filter takes only the 5) is not a number.
"""

import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from katib_flow.errors import KatibFlowError
from katib_flow.foreign import END_OF_TIME
from katib_flow.history import Metric
from katib_flow.metrics.objects import object_of
from katib_flow.spec.experiment import Experiment

# Possessive throughout and anchored to the start of a word, so that the time is linear in the length of the line.
_NUMBER = r"(?i:[+-]?(?:(?:\d++(?:\.\d*+)?|\.\d++)(?:e[+-]?\d++)?|inf(?:inity)?|nan))"
_SEPARATOR = "[,'_\u2019\xb7\u066b\u066c\xa0\u2009\u202f]"  # separates thousands or decimals somewhere in the world
_VALUE = rf"({_NUMBER}|\[[^\[\]]*+\])(?!\.?\w|(?:{_SEPARATOR}|[:/*^+-])\d)"
_OTHER_VALUE = r"(?=([^ \t|;]{1,80}+))"
_NAME = r"[\w./@-]"
_STEP_KEYS = ("step", "global_step")
_LIKE_A_NUMBER = re.compile(r"[\[('\"]*[+-]?\.?\d")
FILTER_SECONDS = 1.0  # per line
_LARGEST_STEP = 2**63 - 1  # the largest integer that a database holds

Number = float | tuple[float, ...]


def now_ms() -> int:
    """The current time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def pair_pattern(names: Collection[str] | None = None) -> re.Pattern[str]:
    """A pattern that finds ``name=value``, with groups for the name, a number or vector, and any other text.

    Args:
        names: the names to find, with any characters; None for all names of letters, digits and ``_./@-``.
    """
    if names is None:
        name = rf"(?<!{_NAME}){_NAME}++"
    else:
        name = "|".join(_bounded(known) for known in sorted(names, key=len, reverse=True))
    return re.compile(rf"({name})\s*+=\s*+(?:{_VALUE}|{_OTHER_VALUE})")


def _bounded(name: str) -> str:
    """A pattern for a name that is not the end of a longer name."""
    before = rf"(?<!{_NAME})" if re.match(_NAME, name) else r"(?<![^\s,;|])"
    return before + re.escape(name)


@dataclass
class LineParser:
    """Reads the lines of one trial in order.

    Attributes:
        names: the metrics to take; None for all.
        format: ``text`` or ``json``.
        filter: regular expressions that replace ``name=value``.
        clock: the time, in milliseconds, for lines that state none.
        left_out: by metric: how many texts look like a number but are not, and the last of them.
    """

    names: Collection[str] | None
    format: str = "text"
    filter: Sequence[str] = ()
    clock: Callable[[], int] = now_ms
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    _steps: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self._pairs = pair_pattern(None if self.names is None else {*self.names, *_STEP_KEYS})

    @classmethod
    def of(cls, experiment: Experiment) -> "LineParser":
        """The parser that the ``metrics`` section of a spec describes."""
        return cls(experiment.metric_names, experiment.metrics.format, experiment.metrics.filter)

    def parse(self, line: str) -> list[Metric]:
        """The metrics on a line; empty for any other line.

        Raises:
            FilterTooSlow: a filter takes too long on the line.
        """
        pairs, time_text = self._json_pairs(line) if self.format == "json" else self._text_pairs(line)
        if not any(self._wanted(name) for name in pairs):
            return []
        step = next((step for key in _STEP_KEYS if (step := _step(pairs.get(key))) is not None), None)
        time_ms = _milliseconds(time_text)
        timestamp_ms = self.clock() if time_ms is None else time_ms
        return [
            Metric(name, value, self._next_step(name, step), timestamp_ms)
            for name, value in pairs.items()
            if self._wanted(name)
        ]

    def _wanted(self, name: str) -> bool:
        return name in self.names if self.names is not None else name not in _STEP_KEYS

    def _text_pairs(self, line: str) -> tuple[dict[str, Number], object]:
        """The pairs on a line, and its first word, which may be a time."""
        pairs = self._numbers(self._filtered(line) if self.filter else self._matched(line))
        return pairs, line.split(maxsplit=1)[0] if pairs and line.strip() else None

    def _filtered(self, line: str) -> list[tuple[str, object]]:
        """The pairs that the filters find.

        Raises:
            FilterTooSlow: they take too long.
        """
        try:
            with time_limit(FILTER_SECONDS):
                return list(filtered(self.filter, line))
        except TimeoutError:
            raise FilterTooSlow(
                f"metrics.filter: found a pattern that takes more than {FILTER_SECONDS:g} s to search the line "
                f"{line[:80]!r}, need one without nested repetitions such as (a+)+"
            ) from None

    def _matched(self, line: str) -> Iterator[tuple[str, object]]:
        for name, text, other in self._pairs.findall(line) if "=" in line else ():
            yield name, text or NoNumber(other)

    def _json_pairs(self, line: str) -> tuple[dict[str, Number], object]:
        data, _ = object_of(line)
        return self._numbers(data.items()), data.get("timestamp")

    def _numbers(self, pairs: Iterable[tuple[str, object]]) -> dict[str, Number]:
        """The pairs with a number; values that only look like one are remembered in ``left_out``."""
        numbers: dict[str, Number] = {}
        for name, stated in pairs:
            value = None if isinstance(stated, NoNumber) else number(stated)
            if name and value is not None:
                numbers[name] = value
            elif self.names is not None and name in self.names and _LIKE_A_NUMBER.match(str(stated)):
                self.left_out[name] = (self.left_out.get(name, (0, ""))[0] + 1, str(stated))
        return numbers

    def _next_step(self, name: str, step: int | None) -> int:
        step = min(self._steps.get(name, -1) + 1, _LARGEST_STEP) if step is None else step
        self._steps[name] = step
        return step


class FilterTooSlow(KatibFlowError):
    """A user's regular expression takes too long; some take time exponential in the length of a line."""


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Interrupt a block that takes longer than a limit; only in the main thread, because others have no such limit.

    Raises:
        TimeoutError: the block took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise TimeoutError

    handler = signal.signal(signal.SIGALRM, interrupt)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, *timer)
        finally:  # the line above may still be interrupted
            signal.signal(signal.SIGALRM, handler)


class NoNumber(str):
    """A text in the place of a number that is not a number, although a part of it may be."""

    __slots__ = ()


_MORE_DIGITS = re.compile(rf"\d|\.\d|[eE][+-]?\d|{_SEPARATOR}\d")
_CUT_BEFORE = re.compile(rf"(?:\d|\d[.]|\d{_SEPARATOR}|(?:[\s=:]|^)[+-])$")
_A_NUMBER_ALREADY = re.compile(r"[+-]?(?!\d{1,3}\.\d{3}$)\d*\.\d+")  # otherwise a comma may follow thousands


def filtered(patterns: Sequence[str], line: str) -> Iterator[tuple[str, object]]:
    """The pairs of a name and a text that regular expressions find on a line, as their groups 1 and 2."""
    for pattern in patterns:
        for match in re.finditer(pattern, line):
            text = (match[2] or "").strip()
            yield (match[1] or "").strip(), NoNumber(whole) if (whole := _whole(match)) != text else text


def _whole(match: re.Match[str]) -> str:
    """The text of a filter's second group, extended to the whole word if the group has only a part of a number."""
    text, line, (start, end) = (match[2] or "").strip(), match.string, match.span(2)
    if not re.search(r"\d", text):
        return text
    more = _MORE_DIGITS.match(line, end)
    if more and more[0][0] == "," and _A_NUMBER_ALREADY.fullmatch(text):
        more = None  # the next item of a list
    if more is None and not _CUT_BEFORE.search(line[max(0, start - 2) : start]):
        return text
    before, after = re.search(r"[^ \t=:]*$", line[:start]), re.match(r"[^ \t]*", line[end:])
    assert before is not None
    assert after is not None
    return f"{before[0][-40:]}{match[2]}{after[0][:40]}"


def _step(value: Number | None) -> int | None:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_STEP
    return int(value) if whole else None  # pyright: ignore[reportArgumentType] - it is a float here


def _milliseconds(stated: object) -> int | None:
    """Milliseconds since the epoch, from seconds or from RFC 3339 text; None for anything else."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return int(stated * 1000) if 0.001 <= stated < END_OF_TIME else None
    if not isinstance(stated, str) or len(stated) < len("2026-01-01T00:00:00"):
        return None
    try:
        return int(datetime.fromisoformat(stated).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def number(value: object) -> Number | None:
    """A number or vector from a JSON value or from text; None for anything else."""
    if isinstance(value, str) and value.startswith("["):
        value = re.split(r"[\s,]+", value[1:].rstrip("]").strip(" \t,"))
    if isinstance(value, list):
        vector = [_scalar(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        known = tuple(item for item in vector if item is not None)
        return known if known and len(known) == len(vector) else None
    return _scalar(value)


def _scalar(value: object) -> float | None:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def scalars(metrics: Iterable[Metric]) -> Iterator[tuple[Metric, float]]:
    """The metrics that are not vectors, with their values."""
    for metric in metrics:
        if not isinstance(metric.value, tuple):
            yield metric, metric.value
