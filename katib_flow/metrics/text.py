"""Log lines -> Metrics: ``name=value`` pairs, or JSON objects.

A line may carry a step (``step=3``) and, at its start, a time (RFC 3339). A value may be a vector (``stats=[1,2,3]``).
Lines without a step are numbered for each metric. Only metrics the experiment names are taken, the rest is log.
"""

import json
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from katib_flow.history import Metric
from katib_flow.spec.experiment import Experiment

_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)"
_PAIR = re.compile(rf"([\w./|@-]+)\s*=\s*({_NUMBER}|\[[^\]]*\])(?![\w.])", re.IGNORECASE)
_STEP_KEYS = ("step", "global_step")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class LineParser:
    """Reads the lines of one trial in order.

    Attributes:
        names: metrics to take; None takes every one.
    """

    names: Collection[str] | None
    format: str = "text"
    filter: str | None = None
    clock: Callable[[], int] = now_ms
    _steps: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, experiment: Experiment) -> "LineParser":
        return cls(experiment.metric_names, experiment.metrics.format, experiment.metrics.filter)

    def parse(self, line: str) -> list[Metric]:
        """The metrics on a line, none where it is not about metrics. Never raises: a log may hold anything."""
        pairs = self._json_pairs(line) if self.format == "json" else self._text_pairs(line)
        if not pairs:
            return []
        step = next(
            (int(value) for key in _STEP_KEYS if isinstance(value := pairs.get(key), float) and value.is_integer()),
            None,
        )
        timestamp = self._timestamp(line, pairs)
        return [
            Metric(name, value, self._next_step(name, step), timestamp)
            for name, value in pairs.items()
            if not isinstance(value, str) and (name in self.names if self.names is not None else name not in _STEP_KEYS)
        ]

    def _text_pairs(self, line: str) -> dict[str, Any]:
        if "=" not in line and self.filter is None:
            return {}
        pairs = re.findall(self.filter, line) if self.filter else _PAIR.findall(line)
        return {name: value for name, text in pairs if (value := _number(text)) is not None}

    def _json_pairs(self, line: str) -> dict[str, Any]:
        if not line.lstrip().startswith("{"):
            return {}
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            return {}
        return {
            str(name): found
            for name, value in data.items()
            if (found := _number(value)) is not None or (found := _time_text(name, value))
        }

    def _next_step(self, name: str, step: int | None) -> int:
        step = self._steps.get(name, -1) + 1 if step is None else step
        self._steps[name] = step
        return step

    def _timestamp(self, line: str, pairs: dict[str, Any]) -> int:
        if self.format == "json":
            stated = pairs.get("timestamp")
            if isinstance(stated, float) and stated > 0:
                return int(stated * 1000)
            parsed = _rfc3339(stated) if isinstance(stated, str) else None
        else:
            parsed = _rfc3339(line.split(maxsplit=1)[0])
        return self.clock() if parsed is None else parsed


def _time_text(name: object, value: object) -> str | None:
    return value if name == "timestamp" and isinstance(value, str) else None


def _rfc3339(text: str) -> int | None:
    if len(text) < 19 or not text[:4].isdigit():
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None


def _number(value: object) -> float | tuple[float, ...] | None:
    """A number or vector, of a JSON value or of text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list):
        vector = [_number(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return (
            tuple(each for each in vector if isinstance(each, float))
            if all(isinstance(each, float) for each in vector)
            else None
        )
    if isinstance(value, str):
        try:
            return _number(json.loads(value)) if value.startswith("[") else float(value)
        except ValueError:
            return None
    return None


def scalars(metrics: Collection[Metric]) -> Iterator[tuple[Metric, float]]:
    """The metrics that are numbers, with their value."""
    for metric in metrics:
        if not isinstance(metric.value, tuple):
            yield metric, metric.value
