"""Reading and writing trials through the operations that every MLflow store has, one run at a time."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, Protocol

from katib_flow.history import Metric
from katib_flow.tracking.api import Api, Page, Run, RunFilter
from katib_flow.tracking.encode import PARENT, Entry, Point, Row
from katib_flow.tracking.faults import Faults
from katib_flow.tracking.names import escape, metric_in
from katib_flow.tracking.threads import parallel

MAX_BYTES = 700_000  # to a call of log_batch: a server refuses one of more than a million
PAGE = 1000
SPANS = 8  # parts that a long list of runs is read in
NAMED = 100  # runs that one search names


class Backend(Protocol):
    """How the trials of one store are read and written."""

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Open the runs of entries without one; their (run id, artifact address)."""
        ...

    def reserve(self, parent: str, trial_id: str) -> str:
        """The id that the run of a new trial will have; "" where the store chooses it when the run is opened."""
        ...

    def write(self, experiment_id: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        """Record (run id, artifact address, entry) each; those of one run in their order."""
        ...

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        """The trials of an experiment, or those named."""
        ...

    def series(self, parent: str, rows: Sequence[Row]) -> dict[str, list[Point]]:
        """Every metric of the runs, by run id."""
        ...

    def tags(self, run_id: str) -> Mapping[str, str]: ...


class ApiBackend:
    """Each operation is tried again as ``faults`` says."""

    def __init__(self, api: Api, faults: Faults) -> None:
        self._api, self._faults = api, faults
        self._statuses: dict[str, str] = {}  # by run id, as last written here: an unchanged one is not sent again

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        return parallel(lambda entry: self._create(experiment_id, parent, entry), entries)

    def reserve(self, parent: str, trial_id: str) -> str:
        return ""

    def _create(self, experiment_id: str, parent: str, entry: Entry) -> tuple[str, str]:
        def found() -> tuple[str, str] | None:
            return next(
                ((row.run_id, row.artifact_uri) for row in self.rows(experiment_id, parent, [entry.name])), None
            )

        opened = self.open_run(experiment_id, entry.started_ms, _first_tags(entry), entry.name, found)
        self._statuses[opened[0]] = "RUNNING"
        return opened

    def open_run(
        self,
        experiment_id: str,
        started_ms: int,
        tags: Mapping[str, str],
        name: str,
        found: Callable[[], tuple[str, str] | None],
    ) -> tuple[str, str]:
        """Open one run, and only one; its id and artifact address.

        Args:
            found: looks for the run, where a call failed and it may be that only its answer was lost.
        """
        attempts = 0

        def call() -> tuple[str, str]:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and (earlier := found()):
                return earlier
            run = self._api.create_run(experiment_id, started_ms, tags, name)
            return run.run_id, run.artifact_uri

        return self._faults.run(call)

    def write(self, experiment_id: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        by_run: dict[str, list[Entry]] = {}
        for run_id, _, entry in entries:
            by_run.setdefault(run_id, []).append(entry)
        parallel(lambda item: [self._write(item[0], entry) for entry in item[1]], by_run.items())

    def _write(self, run_id: str, entry: Entry) -> None:
        """MLflow's status first, the tags last: they say that a trial is final, so all else must be there."""
        if self._statuses.get(run_id) != entry.status or entry.ended_ms is not None:
            self.set_status(run_id, entry.status, entry.ended_ms)
            self._statuses[run_id] = entry.status
        tags = {key: value for key, value in entry.tags.items() if _first_tags(entry).get(key) != value}
        self.log(run_id, entry.params, {**entry.marks, **tags}, entry.metrics)

    def log(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Iterable[Point]) -> None:
        """Params, tags and metrics of a run, in as few calls as MLflow's limits allow; the last tag comes last."""
        items: list[tuple[str, Any, int]] = [
            *(("metrics", point, _size(point.key) + 150) for point in metrics),
            *(("params", item, _size(*item)) for item in params.items()),
            *(("tags", item, _size(*item)) for item in tags.items()),
        ]
        for batch in batches(items):
            call = (run_id, dict(batch["params"]), dict(batch["tags"]), batch["metrics"])
            self._faults.run(lambda call=call: self._api.log_batch(*call))

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        self._faults.run(lambda: self._api.set_status(run_id, status, ended_ms))

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        if trial_ids is None:
            return self.rest(experiment_id, parent, 0, ())
        wanted = set(trial_ids)
        rows = self._rows(experiment_id, [_below(parent, found) for found in covering(trial_ids)])
        return [row for row in rows if row.tags["katib_flow.trial_id"] in wanted]

    def rest(self, experiment_id: str, parent: str, since_ms: int, open_: Sequence[str]) -> list[Row]:
        """The trials whose runs began at a time or later, and those of runs that are named."""
        groups = [tuple(open_[start : start + NAMED]) for start in range(0, len(open_), NAMED)]
        older = self._rows(experiment_id, [_below(parent, RunFilter(run_ids=run_ids)) for run_ids in groups])
        return [*older, *_trials(self._every_run(experiment_id, _below(parent, RunFilter(since_ms=since_ms))))]

    def deleted(self, experiment_id: str, parent: str) -> set[str]:
        """Ids of the runs of trials that were deleted."""
        return {run.run_id for run in self.search(experiment_id, _below(parent, RunFilter(deleted=True)))}

    def _rows(self, experiment_id: str, wheres: Sequence[RunFilter]) -> list[Row]:
        return _trials(chain(*parallel(lambda where: list(self.search(experiment_id, where)), wheres)))

    def _every_run(self, experiment_id: str, where: RunFilter) -> Iterable[Run]:
        """All runs that fit. What is beyond the first page is read in spans of time, several at once."""
        page = self._page(experiment_id, where)
        if not page.token:
            return page.runs
        begin = page.runs[-1].start_ms
        end = self._page(experiment_id, where, newest_first=True, limit=1).runs[0].start_ms
        edges = [begin + (end - begin) * k // SPANS for k in range(SPANS)]
        spans = [replace(where, since_ms=low, before_ms=high) for low, high in pairwise(edges)]
        spans.append(replace(where, since_ms=edges[-1]))
        parts = parallel(lambda span: list(self.search(experiment_id, span)), spans)
        return {run.run_id: run for run in chain(page.runs, *parts)}.values()

    def search(self, experiment_id: str, where: RunFilter, *, newest_first: bool = False) -> Iterator[Run]:
        """Runs that fit, each once: a run that comes between two calls may push another onto the next page."""
        seen: set[str] = set()
        token: str | None = None
        while True:
            page = self._page(experiment_id, where, newest_first=newest_first, token=token)
            yield from (run for run in page.runs if run.run_id not in seen)
            seen.update(run.run_id for run in page.runs)
            token = page.token
            if not token:
                return

    def _page(self, experiment_id: str, where: RunFilter, **options: Any) -> Page:
        options = {"limit": PAGE, **options}
        return self._faults.run(lambda: self._api.search(experiment_id, where, **options))

    def series(self, parent: str, rows: Sequence[Row]) -> dict[str, list[Point]]:
        wanted = [(row.run_id, key) for row in rows for key in row.metric_keys]
        series: dict[str, list[Point]] = {row.run_id: [] for row in rows}
        found = parallel(self._points, wanted)  # one call a metric of a run is all that MLflow offers
        for (run_id, _), points in zip(wanted, found, strict=True):
            series[run_id].extend(points)
        return series

    def points(self, wanted: Sequence[tuple[str, str]]) -> list[list[Metric]]:
        """Of (run id, metric) pairs, everything that was logged."""
        keyed = [(run_id, escape(name)) for run_id, name in wanted]
        found = parallel(self._points, keyed)
        return [
            [Metric(name, metric_in(point.value), point.step, point.timestamp_ms) for point in points]
            for (_, name), points in zip(wanted, found, strict=True)
        ]

    def _points(self, wanted: tuple[str, str]) -> list[Point]:
        run_id, key = wanted
        return self._faults.run(lambda: self._api.metric_history(run_id, key))

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._faults.run(lambda: self._api.run(run_id)).tags


def _first_tags(entry: Entry) -> dict[str, str]:
    """Tags that a new run is created with; it is not final before its metrics are there."""
    if not entry.identity:
        return {}
    state = {"katib_flow.state": "running"} if entry.ended_ms is not None else {}
    return {**entry.identity, **entry.tags, **state}


def _below(parent: str, where: RunFilter) -> RunFilter:
    return replace(where, tags={PARENT: parent, **where.tags})


def _trials(runs: Iterable[Run]) -> list[Row]:
    """The runs that record a trial; user code may have opened others below the experiment's."""
    return [
        Row(run.run_id, run.start_ms, run.end_ms, run.tags, run.artifact_uri, tuple(run.metrics))
        for run in runs
        if "katib_flow.trial_id" in run.tags
    ]


def _size(*texts: str) -> int:
    return 40 + sum(len(json.dumps(text)) for text in texts)


def batches(items: Iterable[tuple[str, Any, int]]) -> Iterator[dict[str, list[Any]]]:
    """Group (kind, item, bytes) within MLflow's limits on one call."""
    limits = {"metrics": 1000, "params": 100, "tags": 100}
    batch: dict[str, list[Any]] = {kind: [] for kind in limits}
    total, count = 0, 0
    for kind, item, size in items:
        if len(batch[kind]) == limits[kind] or total + size > MAX_BYTES or count == 1000:
            yield batch
            batch, total, count = {kind: [] for kind in limits}, 0, 0
        batch[kind].append(item)
        total, count = total + size, count + 1
    if count:
        yield batch


def covering(trial_ids: Iterable[str]) -> list[RunFilter]:
    """Filters that cover trial ids in few searches, and may cover more: MLflow cannot ask for a list of values.

    Ids that differ in their last two characters only, as a batch's do, are one search.
    """
    key = "katib_flow.trial_id"
    stems: dict[str, list[str]] = {}
    for trial_id in dict.fromkeys(trial_ids):
        stems.setdefault(trial_id[:-2], []).append(trial_id)
    return [
        RunFilter(prefixes={key: stem}) if len(ids) > 1 else RunFilter(tags={key: ids[0]})
        for stem, ids in stems.items()
    ]
