"""The settled part of a long history as one artifact of the parent run, so that a step reads only the rest.

A server takes about two milliseconds per run. Ten thousand runs, read again by every step, would keep it busy for half
a minute each time. The artifact is only a cache: if it is lost, all runs are read again.

A trial is settled if it ended ``WHILE_MS`` ago in a state that is never left. Runs that began before ``since_ms`` and
are not settled are listed in ``open``; later ones are found by their start, so no clock may be off by more than
``WHILE_MS``.
"""

import gzip
import json
import tempfile
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from pathlib import Path

from katib_flow.errors import KatibFlowError
from katib_flow.history import State
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.encode import Row
from katib_flow.tracking.records import Record
from katib_flow.tracking.runs import ApiBackend

ARTIFACT = "katib_flow/settled.json.gz"
WHILE_MS = 15 * 60_000
MOST_BYTES = 1 << 28  # unpacked: about a million runs, but no file that was crafted to fill the memory
LEAST = 500  # the number of runs from which an artifact is worthwhile
OPEN = 500  # the most open runs, because they are read by id
_FOR_GOOD = {state for state in State if state.over}


@dataclass(frozen=True)
class Settled:
    """The settled part of a history.

    Attributes:
        rows: the rows of the settled trials, by run id.
        open: the ids of other runs that began before ``since_ms``, and of deleted runs, which may be restored.
    """

    rows: Mapping[str, Row] = field(default_factory=dict[str, Row])
    open: tuple[str, ...] = ()
    since_ms: int = 0


class Histories:
    """Reads histories, without the settled parts that this process or another one has read before."""

    def __init__(self, runs: ApiBackend, artifacts: Artifacts) -> None:
        self._runs, self._artifacts = runs, artifacts
        self._parts: dict[str, Settled] = {}  # by parent run
        self._kept: dict[str, int] = {}  # number of rows in its artifact
        self._newest: dict[str, int] = {}

    def rows(self, record: Record) -> list[Row]:
        """All trials of an experiment."""
        part = self._part(record)
        fresh = self._runs.rest(record.mlflow_experiment_id, record.run_id, part.since_ms, part.open)
        rows = {**part.rows, **{row.run_id: row for row in fresh}}
        self._newest[record.run_id] = max((row.start_ms for row in rows.values()), default=0)
        if len(rows) < LEAST:
            return fresh
        deleted = self._runs.deleted(record.mlflow_experiment_id, record.run_id)
        self._parts[record.run_id] = settle(rows, deleted, int(time.time() * 1000))
        return [row for row in rows.values() if row.run_id not in deleted]

    def newest_ms(self, record: Record) -> int:
        """The latest start among the runs read here, in milliseconds: a new run must not start before it."""
        return self._newest.get(record.run_id, 0)

    def keep(self, record: Record) -> None:
        """Write the artifact if ``LEAST`` rows have been added; a failure is ignored."""
        part = self._parts.get(record.run_id, Settled())
        if len(part.rows) - self._kept.get(record.run_id, 0) >= LEAST:
            self._kept[record.run_id] = len(part.rows)
            with suppress(KatibFlowError), tempfile.NamedTemporaryFile(prefix="katib-flow-") as file:
                Path(file.name).write_bytes(packed(part))
                self._artifacts.write(record.artifact_uri, ARTIFACT, Path(file.name), patience_seconds=0)

    def _part(self, record: Record) -> Settled:
        if record.run_id not in self._parts:
            part = Settled()
            with suppress(KatibFlowError):
                part = unpacked(self._artifacts.get(record.artifact_uri, ARTIFACT, patience_seconds=0).read_bytes())
            self._parts[record.run_id], self._kept[record.run_id] = part, len(part.rows)
        return self._parts[record.run_id]


def settle(rows: Mapping[str, Row], deleted: Collection[str], now_ms: int) -> Settled:
    """The settled part of a complete history."""
    since_ms = min(now_ms, max(row.start_ms for row in rows.values())) - WHILE_MS
    unsettled = sorted(row.start_ms for row in rows.values() if not _settled(row, since_ms))
    since_ms = min([since_ms, *unsettled[OPEN:]])
    before = {run_id: row for run_id, row in rows.items() if row.start_ms < since_ms}
    settled = {run_id: row for run_id, row in before.items() if _settled(row, since_ms)}
    return Settled(settled, tuple({*before, *deleted} - {*settled}), since_ms)


def _settled(row: Row, since_ms: int) -> bool:
    return row.tags["katib_flow.state"] in _FOR_GOOD and row.end_ms is not None and row.end_ms < since_ms


def packed(settled: Settled) -> bytes:
    """The content of the artifact."""
    rows = [(row.run_id, row.start_ms, row.end_ms, _ours(row), row.artifact_uri, row.metric_keys)
            for row in settled.rows.values()]  # fmt: skip
    return gzip.compress(json.dumps([settled.since_ms, settled.open, rows]).encode(), 1)


def unpacked(content: bytes) -> Settled:
    """The part that ``packed`` encoded; empty if the content is damaged or from another version."""
    try:
        with gzip.open(BytesIO(content)) as file:
            since_ms, open_, rows = json.loads(file.read(MOST_BYTES))
        settled = Settled({row[0]: Row(*row) for row in rows}, tuple(open_), since_ms)
        return settled if _sound(settled) else Settled()
    except (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return Settled()


def _sound(settled: Settled) -> bool:
    """True if all values have the right types, so that readers need not check them."""
    rows = settled.rows.values()
    texts = chain(settled.open, *((row.run_id, row.artifact_uri, *row.metric_keys, *_items(row.tags)) for row in rows))
    ends = [row.end_ms for row in rows if row.end_ms is not None]
    numbers = (settled.since_ms, *(row.start_ms for row in rows), *ends)
    return (
        all(isinstance(text, str) for text in texts)  # pyright: ignore[reportUnnecessaryIsInstance] - read from JSON
        and all(type(number) is int for number in numbers)
        and all("katib_flow.state" in row.tags for row in rows)
    )


def _items(tags: Mapping[str, str]) -> Iterator[str]:
    return chain.from_iterable(tags.items())


def _ours(row: Row) -> dict[str, str]:
    return {key: value for key, value in row.tags.items() if key.startswith("katib_flow.")}
