"""Log lines -> Metrics: ``name=value`` pairs, or JSON objects.

A line may carry a step (``step=3``) and, at its start, a time (RFC 3339). A value may be a vector (``stats=[1,2,3]``).
Lines without a step are numbered for each metric. Only metrics the experiment names are taken, the rest is log.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from katib_flow.history import Metric
from katib_flow.spec.experiment import Experiment

# Possessive throughout and anchored to the start of a word, so that the time taken grows with the line, not its square.
_NUMBER = r"[+-]?(?:(?:\d++(?:\.\d*+)?|\.\d++)(?:e[+-]?\d++)?|inf(?:inity)?|nan)"
_NAME = r"[\w./@-]"
_PAIR = re.compile(rf"(?<!{_NAME})({_NAME}++)\s*+=\s*+({_NUMBER}|\[[^\[\]]*+\])(?!\.?\w)", re.IGNORECASE)
_STEP_KEYS = ("step", "global_step")
_LARGEST_STEP = 2**63 - 1  # what a database keeps
_END_OF_TIME = 253_402_300_800  # seconds, the year 10000

Number = float | tuple[float, ...]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class LineParser:
    """Reads the lines of one trial in order.

    Attributes:
        names: metrics to take; None takes every one.
        filter: regular expressions in the place of ``name=value``.
    """

    names: Collection[str] | None
    format: str = "text"
    filter: Sequence[str] = ()
    clock: Callable[[], int] = now_ms
    _steps: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, experiment: Experiment) -> "LineParser":
        return cls(experiment.metric_names, experiment.metrics.format, experiment.metrics.filter)

    def parse(self, line: str) -> list[Metric]:
        """The metrics on a line, none where it is not about metrics. Never raises: a log may hold anything."""
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
        """The pairs on a line, and what may be its time."""
        if self.filter:
            matches = [match for pattern in self.filter for match in re.finditer(pattern, line)]
            found = [((match[1] or "").strip(), (match[2] or "").strip()) for match in matches]
        else:
            found = _PAIR.findall(line) if "=" in line else []
        pairs = {name: value for name, text in found if name and (value := _number(text)) is not None}
        return pairs, line.split(maxsplit=1)[0] if pairs and line.strip() else None

    def _json_pairs(self, line: str) -> tuple[dict[str, Number], object]:
        if not line.lstrip().startswith("{"):
            return {}, None
        try:
            data: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            return {}, None
        pairs = {name: value for name, found in data.items() if name and (value := _number(found)) is not None}
        return pairs, data.get("timestamp")

    def _next_step(self, name: str, step: int | None) -> int:
        step = min(self._steps.get(name, -1) + 1, _LARGEST_STEP) if step is None else step
        self._steps[name] = step
        return step


def _step(value: Number | None) -> int | None:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_STEP
    return int(value) if whole else None  # pyright: ignore[reportArgumentType] - it is a float here


def _milliseconds(stated: object) -> int | None:
    """Milliseconds since the epoch, of seconds or of RFC 3339 text; None where it is neither."""
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return int(stated * 1000) if 0 < stated < _END_OF_TIME else None
    if not isinstance(stated, str) or len(stated) < len("2026-01-01T00:00:00"):
        return None
    try:
        return int(datetime.fromisoformat(stated).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _number(value: object) -> Number | None:
    """A number or vector, of a JSON value or of text; None for anything else."""
    if isinstance(value, str) and value.startswith("["):
        value = re.split(r"[\s,]+", value[1:].rstrip("]").strip(" \t,"))
    if isinstance(value, list):
        vector = [_scalar(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        known = tuple(each for each in vector if each is not None)
        return known if known and len(known) == len(vector) else None
    return _scalar(value)


def _scalar(value: object) -> float | None:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def scalars(metrics: Collection[Metric]) -> Iterator[tuple[Metric, float]]:
    """The metrics that are numbers, with their value."""
    for metric in metrics:
        if not isinstance(metric.value, tuple):
            yield metric, metric.value
