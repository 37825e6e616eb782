"""Reads and writes trials through the operations that every MLflow store has, one run at a time."""

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

MAX_BYTES = 700_000  # per call of log_batch: a server refuses more than a million
PAGE = 1000
SPANS = 8  # number of parts in which a long list of runs is read
NAMED = 100  # run ids per search


class Backend(Protocol):
    """Reads and writes the trials of one store."""

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Create runs for new trials; the (run id, artifact address) of each entry."""
        ...

    def reserve(self, parent: str, trial_id: str) -> str:
        """The id that the run of a new trial will have; "" if the store chooses it when the run is created."""
        ...

    def write(self, experiment_id: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        """Write (run id, artifact address, entry) triples; those of one run are written in order."""
        ...

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        """The trials of an experiment, or only those with the given ids."""
        ...

    def series(self, parent: str, rows: Sequence[Row]) -> dict[str, list[Point]]:
        """All metrics of some runs, by run id."""
        ...

    def tags(self, run_id: str) -> Mapping[str, str]:
        """The tags of a run."""
        ...


class ApiBackend:
    """A backend for every store, whose operations are repeated as ``faults`` decides."""

    def __init__(self, api: Api, faults: Faults) -> None:
        self._api, self._faults = api, faults
        self._statuses: dict[str, str] = {}  # by run id, as last written here: an unchanged status is not sent again

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Create runs for new trials, in parallel."""
        return parallel(lambda entry: self._create(experiment_id, parent, entry), entries)

    def reserve(self, parent: str, trial_id: str) -> str:
        """Return "": the server chooses the id."""
        return ""

    def _create(self, experiment_id: str, parent: str, entry: Entry) -> tuple[str, str]:
        def look_up() -> tuple[str, str] | None:
            return next(
                ((row.run_id, row.artifact_uri) for row in self.rows(experiment_id, parent, [entry.name])), None
            )

        opened = self.open_run(experiment_id, entry.started_ms, _first_tags(entry), entry.name, look_up)
        self._statuses[opened[0]] = "RUNNING"
        return opened

    def open_run(
        self,
        experiment_id: str,
        started_ms: int,
        tags: Mapping[str, str],
        name: str,
        look_up: Callable[[], tuple[str, str] | None],
    ) -> tuple[str, str]:
        """Create exactly one run, and return its id and artifact address.

        Args:
            look_up: looks for the run after a failed call, of which perhaps only the answer was lost.
        """
        attempts = 0

        def call() -> tuple[str, str]:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and (earlier := look_up()):
                return earlier
            run = self._api.create_run(experiment_id, started_ms, tags, name)
            return run.run_id, run.artifact_uri

        return self._faults.run(call)

    def write(self, experiment_id: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        """Write entries, several runs in parallel."""
        by_run: dict[str, list[Entry]] = {}
        for run_id, _, entry in entries:
            by_run.setdefault(run_id, []).append(entry)
        parallel(lambda item: [self._write(item[0], entry) for entry in item[1]], by_run.items())

    def _write(self, run_id: str, entry: Entry) -> None:
        """Write MLflow's status first and the tags last, because they mark a trial as final."""
        if self._statuses.get(run_id) != entry.status or entry.ended_ms is not None:
            self.set_status(run_id, entry.status, entry.ended_ms)
            self._statuses[run_id] = entry.status
        tags = {key: value for key, value in entry.tags.items() if _first_tags(entry).get(key) != value}
        self.log(run_id, entry.params, {**entry.artifact_tags, **tags}, entry.metrics)

    def log(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Iterable[Point]) -> None:
        """Log params, tags and metrics in as few calls as MLflow's limits allow; the last tag is written last."""
        items: list[tuple[str, Any, int]] = [
            *(("metrics", point, _size(point.key) + 150) for point in metrics),
            *(("params", item, _size(*item)) for item in params.items()),
            *(("tags", item, _size(*item)) for item in tags.items()),
        ]
        for batch in batches(items):
            call = (run_id, dict(batch["params"]), dict(batch["tags"]), batch["metrics"])
            self._faults.run(lambda call=call: self._api.log_batch(*call))

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set the status of a run, and its end in milliseconds since the epoch, if given."""
        self._faults.run(lambda: self._api.set_status(run_id, status, ended_ms))

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        """The trials of an experiment, or only those with the given ids."""
        if trial_ids is None:
            return self.rest(experiment_id, parent, 0, ())
        wanted = set(trial_ids)
        rows = self._rows(experiment_id, [_below(parent, where) for where in covering(trial_ids)])
        return [row for row in rows if row.tags["katib_flow.trial_id"] in wanted]

    def rest(self, experiment_id: str, parent: str, since_ms: int, open_: Sequence[str]) -> list[Row]:
        """The trials whose runs began at ``since_ms`` or later, and those of the runs in ``open_``."""
        groups = [tuple(open_[start : start + NAMED]) for start in range(0, len(open_), NAMED)]
        older = self._rows(experiment_id, [_below(parent, RunFilter(run_ids=run_ids)) for run_ids in groups])
        return [*older, *_trials(self._every_run(experiment_id, _below(parent, RunFilter(since_ms=since_ms))))]

    def deleted(self, experiment_id: str, parent: str) -> set[str]:
        """The ids of deleted runs of trials."""
        return {run.run_id for run in self.search(experiment_id, _below(parent, RunFilter(deleted=True)))}

    def _rows(self, experiment_id: str, wheres: Sequence[RunFilter]) -> list[Row]:
        return _trials(chain(*parallel(lambda where: list(self.search(experiment_id, where)), wheres)))

    def _every_run(self, experiment_id: str, where: RunFilter) -> Iterable[Run]:
        """All matching runs. Those after the first page are read in spans of time, in parallel."""
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
        """Yield the matching runs, without duplicates: a new run may push another one onto the next page."""
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
        """All metrics of some runs, by run id."""
        wanted = [(row.run_id, key) for row in rows for key in row.metric_keys]
        series: dict[str, list[Point]] = {row.run_id: [] for row in rows}
        histories = parallel(self._points, wanted)  # MLflow needs one call per run and metric
        for (run_id, _), points in zip(wanted, histories, strict=True):
            series[run_id].extend(points)
        return series

    def points(self, wanted: Sequence[tuple[str, str]]) -> list[list[Metric]]:
        """All logged values for (run id, metric name) pairs, in the same order."""
        keyed = [(run_id, escape(name)) for run_id, name in wanted]
        histories = parallel(self._points, keyed)
        return [
            [Metric(name, metric_in(point.value), point.step, point.timestamp_ms) for point in points]
            for (_, name), points in zip(wanted, histories, strict=True)
        ]

    def _points(self, wanted: tuple[str, str]) -> list[Point]:
        run_id, key = wanted
        return self._faults.run(lambda: self._api.metric_history(run_id, key))

    def tags(self, run_id: str) -> Mapping[str, str]:
        """The tags of a run."""
        return self._faults.run(lambda: self._api.run(run_id)).tags


def _first_tags(entry: Entry) -> dict[str, str]:
    """The tags that a new run is created with; its state is not final until its metrics are written."""
    if not entry.identity:
        return {}
    state = {"katib_flow.state": "running"} if entry.ended_ms is not None else {}
    return {**entry.identity, **entry.tags, **state}


def _below(parent: str, where: RunFilter) -> RunFilter:
    return replace(where, tags={PARENT: parent, **where.tags})


def _trials(runs: Iterable[Run]) -> list[Row]:
    """The runs that record a trial; user code may have created other child runs."""
    return [
        Row(run.run_id, run.start_ms, run.end_ms, run.tags, run.artifact_uri, tuple(run.metrics))
        for run in runs
        if "katib_flow.trial_id" in run.tags
    ]


def _size(*texts: str) -> int:
    return 40 + sum(len(json.dumps(text)) for text in texts)


def batches(items: Iterable[tuple[str, Any, int]]) -> Iterator[dict[str, list[Any]]]:
    """Group (kind, item, size in bytes) triples into batches within MLflow's limits on one call."""
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
    """Few filters that match some trial ids, and perhaps others: MLflow cannot search for a list of values.

    Ids that differ only in their last two characters, as those of a batch do, share one filter.
    """
    key = "katib_flow.trial_id"
    stems: dict[str, list[str]] = {}
    for trial_id in dict.fromkeys(trial_ids):
        stems.setdefault(trial_id[:-2], []).append(trial_id)
    return [
        RunFilter(prefixes={key: stem}) if len(ids) > 1 else RunFilter(tags={key: ids[0]})
        for stem, ids in stems.items()
    ]
