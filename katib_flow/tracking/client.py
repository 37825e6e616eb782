"""Reading and writing runs through ``MlflowClient``: the path that every MLflow store has."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol

from katib_flow.errors import TrackingError
from katib_flow.history import Metric
from katib_flow.tracking.connect import store_of
from katib_flow.tracking.encode import PARENT, Entry, Point, Row, metric_in
from katib_flow.tracking.faults import Faults
from katib_flow.tracking.names import escape
from katib_flow.tracking.threads import parallel

MAX_BYTES = 700_000  # to a call of log_batch: a server refuses one of more than a million
PAGE = 1000
SPANS = 8  # parts that a long list of runs is read in
OLDEST_FIRST = "attributes.start_time ASC"
NEWEST_FIRST = "attributes.start_time DESC"


class Backend(Protocol):
    """How the trials of one store are read and written."""

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Open the runs of entries without one; their (run id, artifact address)."""
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


class ClientBackend:
    def __init__(self, client: Any, faults: Faults) -> None:
        self._client, self._faults = client, faults
        self._statuses: dict[str, str] = {}  # by run id, as last written here: an unchanged one is not sent again

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        return parallel(lambda entry: self._create(experiment_id, parent, entry), entries)

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
            return (found() if attempts > 1 else None) or _open_run(self._client, experiment_id, started_ms, tags, name)

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
        from mlflow.entities import Metric, Param, RunTag

        items: list[tuple[str, Any, int]] = [
            *(
                ("metrics", Metric(point.key, point.value, point.timestamp_ms, point.step), _size(point.key) + 150)
                for point in metrics
            ),
            *(("params", Param(key, value), _size(key, value)) for key, value in params.items()),
            *(("tags", RunTag(key, value), _size(key, value)) for key, value in tags.items()),
        ]
        for batch in batches(items):  # synchronous, whatever MLFLOW_ENABLE_ASYNC_LOGGING says
            self._faults.run(lambda batch=batch: self._client.log_batch(run_id, **batch, synchronous=True))

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set MLflow's status; ``MlflowClient.set_terminated`` would end a run that only begins, and prints a link."""
        from mlflow.entities import RunStatus

        number = RunStatus.from_string(status)
        self._faults.run(lambda: store_of(self._client).update_run_info(run_id, number, ended_ms, None))

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        if trial_ids is None:
            return self.rest(experiment_id, parent, 0, ())
        wanted, wheres = set(trial_ids), [f"tags.`katib_flow.trial_id` {each}" for each in covering(trial_ids)]
        return [row for row in self._rows(experiment_id, parent, wheres) if row.tags["katib_flow.trial_id"] in wanted]

    def rest(self, experiment_id: str, parent: str, since_ms: int, open_: Sequence[str]) -> list[Row]:
        """The trials whose runs began at a time or later, and those of runs that are named."""
        where = f"{_below(parent)} AND attributes.start_time >= {since_ms}"
        named = ["', '".join(open_[start : start + 100]) for start in range(0, len(open_), 100)]
        older = self._rows(experiment_id, parent, [f"attributes.run_id IN ('{ids}')" for ids in named])
        return [*older, *_trials(self._every_run(experiment_id, where))]

    def deleted(self, experiment_id: str, parent: str) -> set[str]:
        """Ids of the runs of trials that were deleted."""
        from mlflow.entities import ViewType

        found = self.search(experiment_id, _below(parent), OLDEST_FIRST, run_view_type=ViewType.DELETED_ONLY)
        return {run.info.run_id for run in found}

    def _rows(self, experiment_id: str, parent: str, wheres: Sequence[str]) -> list[Row]:
        wheres = [f"{_below(parent)} AND {each}" for each in wheres]
        return _trials(chain(*parallel(lambda each: list(self.search(experiment_id, each, OLDEST_FIRST)), wheres)))

    def _every_run(self, experiment_id: str, where: str) -> Iterable[Any]:
        """All runs that fit. What is beyond the first page is read in spans of time, several at once."""
        page = self._page(experiment_id, where, OLDEST_FIRST)
        if not page.token:
            return page
        begin: int = page[-1].info.start_time
        end: int = self._page(experiment_id, where, NEWEST_FIRST, max_results=1)[0].info.start_time
        edges = [begin + (end - begin) * k // SPANS for k in range(SPANS)]
        spans = [f"attributes.start_time >= {low} AND attributes.start_time < {high}" for low, high in pairwise(edges)]
        spans.append(f"attributes.start_time >= {edges[-1]}")
        parts = parallel(lambda span: list(self.search(experiment_id, f"{where} AND {span}", OLDEST_FIRST)), spans)
        return {run.info.run_id: run for run in chain(page, *parts)}.values()

    def search(self, experiment_id: str, where: str, order: str, **options: Any) -> Iterator[Any]:
        """Runs that fit, each once: a run that comes between two calls may push another onto the next page."""
        seen: set[str] = set()
        token: str | None = None
        while True:
            page = self._page(experiment_id, where, order, page_token=token, **options)
            yield from (run for run in page if run.info.run_id not in seen)
            seen.update(run.info.run_id for run in page)
            token = page.token
            if not token:
                return

    def _page(self, experiment_id: str, where: str, order: str, **options: Any) -> Any:
        options = {"max_results": PAGE, **options}
        return self._faults.run(lambda: self._client.search_runs([experiment_id], where, order_by=[order], **options))

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
        history = self._faults.run(lambda: self._client.get_metric_history(run_id, key))
        return [Point(key, metric.value, metric.timestamp, metric.step) for metric in history]

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._faults.run(lambda: self._client.get_run(run_id)).data.tags


def _open_run(client: Any, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> tuple[str, str]:
    """Open a run with one request: MLflow's client sends one again whose answer was lost, and so opens a second."""
    store = store_of(client)
    if not hasattr(store, "get_host_creds"):
        info = client.create_run(experiment_id, started_ms, dict(tags), name).info
        return info.run_id, info.artifact_uri
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    body = {
        "experiment_id": experiment_id,
        "user_id": tags.get("mlflow.user", "unknown"),
        "run_name": name,
        "start_time": started_ms,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    endpoint = "/api/2.0/mlflow/runs/create"
    creds = store.get_host_creds()
    response = http_request(creds, endpoint, "POST", json=body, max_retries=0, raise_on_status=False)
    info = verify_rest_response(response, endpoint).json()["run"]["info"]
    return info["run_id"], info["artifact_uri"]


def _first_tags(entry: Entry) -> dict[str, str]:
    """Tags that a new run is created with; it is not final before its metrics are there."""
    if not entry.identity:
        return {}
    state = {"katib_flow.state": "running"} if entry.ended_ms is not None else {}
    return {**entry.identity, **entry.tags, **state}


def _below(parent: str) -> str:
    return f"tags.`{PARENT}` = {quoted(parent)}"


def _trials(runs: Iterable[Any]) -> list[Row]:
    """The runs that record a trial; user code may have opened others below the experiment's."""
    return [
        Row(
            it.info.run_id,
            it.info.start_time,
            it.info.end_time,
            it.data.tags,
            it.info.artifact_uri,
            tuple(it.data.metrics),
        )
        for it in runs
        if "katib_flow.trial_id" in it.data.tags
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


def covering(trial_ids: Iterable[str]) -> list[str]:
    """Conditions that cover trial ids in few searches, and may cover more: MLflow cannot ask for a list of values.

    Ids that differ in their last two characters only, as a batch's do, are one search.
    """
    stems: dict[str, list[str]] = {}
    for trial_id in dict.fromkeys(trial_ids):
        stems.setdefault(trial_id[:-2], []).append(trial_id)
    return [f"LIKE {quoted(f'{stem}%')}" if len(ids) > 1 else f"= {quoted(ids[0])}" for stem, ids in stems.items()]


def quoted(text: str) -> str:
    """A text as a filter of MLflow has it, which knows no escapes.

    Raises:
        TrackingError: it holds both kinds of quotes.
    """
    if "'" not in text:
        return f"'{text}'"
    if '"' not in text:
        return f'"{text}"'
    raise TrackingError(f"{text!r}: found both kinds of quotes, need at most one, because MLflow cannot search for it")
