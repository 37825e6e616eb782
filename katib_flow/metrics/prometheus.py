"""Reads metrics from a trial's Prometheus endpoint: it is scraped every second, and each changed value is a point.

A metric is named like its sample, with its labels (``accuracy{phase="val"}``) or without them.
"""

import re
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from http.client import HTTPException

from katib_flow.foreign import END_OF_TIME
from katib_flow.history import Metric
from katib_flow.metrics.hints import instead
from katib_flow.metrics.text import now_ms

SCRAPE_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0
_MOST_NAMES = 1000  # other names to remember for hints
_LARGEST_BYTES = 16 << 20
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)(?:\s+(-?\d+))?\s*", re.ASCII)


class Endpoint:
    """An endpoint on this machine, or in this pod.

    Args:
        path: ``/metrics`` by default.
        names: the metrics to take.
        clock: a replacement for ``time.monotonic``.
    """

    def __init__(
        self, port: int, path: str | None, names: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = f"http://127.0.0.1:{port}/{(path or 'metrics').lstrip('/')}"
        self._names, self._clock = names, clock
        self._due = 0.0
        self._last: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._answered = False
        self._others: set[str] = set()

    def absence(self, name: str) -> str:
        """Why a metric has no value, for people."""
        if not self._answered:
            return f"{self._url} did not answer while the trial ran"
        return instead(name, self._others, f"{self._url} has") or f"{self._url} has no samples"

    def read(self, *, end: bool = False) -> list[Metric]:
        """The values that have changed since the last call; empty if no scrape is due, or there is no answer."""
        if self._clock() < self._due and not end:
            return []
        self._due = self._clock() + SCRAPE_SECONDS
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - http, above
                data = answer.read(_LARGEST_BYTES + 1)
        except (OSError, HTTPException, ValueError):
            return []
        self._answered = True
        if len(data) > _LARGEST_BYTES:
            data = data[: data.rfind(b"\n", 0, _LARGEST_BYTES) + 1]  # a part of a number would be a wrong number
        return list(self._changed(data.decode("utf-8", "replace")))

    def _changed(self, text: str) -> Iterator[Metric]:
        for name, value, timestamp_ms in samples(text):
            wanted = name if name in self._names else name.partition("{")[0]
            if wanted not in self._names and len(self._others) < _MOST_NAMES:
                self._others.add(wanted)
            if wanted in self._names and self._last.get(wanted) != value:
                self._last[wanted] = value
                self._steps[wanted] = self._steps.get(wanted, -1) + 1
                yield Metric(wanted, value, self._steps[wanted], timestamp_ms or now_ms())


def samples(text: str) -> Iterator[tuple[str, float, int | None]]:
    """The samples in Prometheus's text format: name with labels, value, and time in milliseconds.

    The time is None if it is missing or out of range.
    """
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        try:
            stated = int(match[4]) if match[4] else None
            known = stated is not None and 0 <= stated < END_OF_TIME * 1000
            yield match[1] + (match[2] or ""), float(match[3]), stated if known else None
        except ValueError:
            continue
