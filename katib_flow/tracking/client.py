"""Reading and writing runs through ``MlflowClient``: the path that every MLflow store has."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from katib_flow.errors import TrackingError
from katib_flow.tracking.connect import store_of
from katib_flow.tracking.encode import PARENT, Entry, Point, Row
from katib_flow.tracking.faults import Faults

MAX_BYTES = 700_000  # to a call of log_batch: a server refuses one of more than a million
PAGE = 1000


class Backend(Protocol):
    """How the trials of one store are read and written."""

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Open the runs of entries without one; their (run id, artifact address)."""
        ...

    def write(self, experiment_id: str, parent: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        """Record (run id, artifact address, entry) each."""
        ...

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> Iterator[Row]:
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
        return [self._create(experiment_id, parent, entry) for entry in entries]

    def _create(self, experiment_id: str, parent: str, entry: Entry) -> tuple[str, str]:
        attempts = 0

        def call() -> tuple[str, str]:
            nonlocal attempts
            attempts += 1
            if attempts > 1 and (found := list(self.rows(experiment_id, parent, [entry.name]))):
                return found[0].run_id, found[0].artifact_uri  # the answer was lost, not the call
            run = self._client.create_run(experiment_id, entry.started_ms, _first_tags(entry), entry.name)
            self._statuses[run.info.run_id] = "RUNNING"
            return run.info.run_id, run.info.artifact_uri

        return self._faults.run(call)

    def write(self, experiment_id: str, parent: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        for run_id, _, entry in entries:
            tags = {key: value for key, value in entry.tags.items() if _first_tags(entry).get(key) != value}
            self.log(run_id, entry.params, {**tags, **entry.marks}, entry.metrics)
            if self._statuses.get(run_id) != entry.status or entry.ended_ms is not None:
                self.terminate(run_id, entry.status, entry.ended_ms)
                self._statuses[run_id] = entry.status

    def log(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]) -> None:
        """Params, tags and metrics of a run, in as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        items: list[tuple[str, Any, int]] = [
            *(
                ("metrics", Metric(point.key, point.value, point.timestamp_ms, point.step), 150 + len(point.key))
                for point in metrics
            ),
            *(("params", Param(key, value), _size(key, value)) for key, value in params.items()),
            *(("tags", RunTag(key, value), _size(key, value)) for key, value in tags.items()),
        ]
        for batch in batches(items):
            self._faults.run(lambda batch=batch: self._client.log_batch(run_id, **batch))

    def terminate(self, run_id: str, status: str, ended_ms: int | None) -> None:
        from mlflow.entities import RunStatus

        number = RunStatus.from_string(status)
        self._faults.run(lambda: store_of(self._client).update_run_info(run_id, number, ended_ms, None))

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> Iterator[Row]:
        where = f"tags.`{PARENT}` = {quoted(parent)}"
        wheres = (
            [where]
            if trial_ids is None
            else [f"{where} AND tags.`katib_flow.trial_id` = {quoted(one)}" for one in trial_ids]
        )
        for filtered in wheres:
            for run in self.search(experiment_id, filtered, "attributes.start_time ASC"):
                if "katib_flow.trial_id" in run.data.tags:
                    yield row_of(run)

    def search(self, experiment_id: str, where: str, order: str) -> Iterator[Any]:
        """Runs in pages. Their order must be one in which new runs come last, or a page would repeat or miss some."""
        token: str | None = None
        while True:
            page = self._faults.run(
                lambda token=token: self._client.search_runs(
                    [experiment_id], where, max_results=PAGE, order_by=[order], page_token=token
                )
            )
            yield from page
            token = page.token
            if not token:
                return

    def series(self, parent: str, rows: Sequence[Row]) -> dict[str, list[Point]]:
        wanted = [(row.run_id, key) for row in rows for key in row.metric_keys]
        with ThreadPoolExecutor(8) as pool:  # one call a metric of a run is all that MLflow offers
            found = list(pool.map(lambda pair: self._points(*pair), wanted))
        series: dict[str, list[Point]] = {row.run_id: [] for row in rows}
        for (run_id, _), points in zip(wanted, found, strict=True):
            series[run_id].extend(points)
        return series

    def _points(self, run_id: str, key: str) -> list[Point]:
        history = self._faults.run(lambda: self._client.get_metric_history(run_id, key))
        return [Point(key, metric.value, metric.timestamp, metric.step) for metric in history]

    def tags(self, run_id: str) -> Mapping[str, str]:
        return self._faults.run(lambda: self._client.get_run(run_id)).data.tags


def _first_tags(entry: Entry) -> dict[str, str]:
    """Tags that a new run is created with; it is not final before its metrics are there."""
    if not entry.identity:
        return {}
    state = {"katib_flow.state": "running"} if entry.ended_ms is not None else {}
    return {**entry.identity, **entry.tags, **state}


def row_of(run: Any) -> Row:
    info = run.info
    return Row(info.run_id, info.start_time, info.end_time, run.data.tags, info.artifact_uri, tuple(run.data.metrics))


def _size(key: str, value: str) -> int:
    return 40 + len(key) + 6 * len(value)  # in JSON a character may become \uXXXX


def batches(items: Sequence[tuple[str, Any, int]]) -> Iterator[dict[str, list[Any]]]:
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
