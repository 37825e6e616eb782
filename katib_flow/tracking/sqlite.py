"""MLflow's SQLite store without MLflow, with the trials of an experiment read and written in bulk.

Departs from ``MlflowClient``, which takes two seconds to import, and then some 6 ms and a dozen queries for each empty
trial: here a whole group of changes is one transaction. The result in the database is the same in every column, and
tests compare the two. Only schemas in ``database.KNOWN`` are touched.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from katib_flow.tracking.api import Api, ApiError, Group, Page, Run, RunFilter
from katib_flow.tracking.database import Database
from katib_flow.tracking.encode import PARENT, Entry, Point, Row
from katib_flow.tracking.faults import Faults
from katib_flow.tracking.names import metric_out

RUN_ID = "{run_id}"  # placeholder for the run in an artifact address
LONGEST_ROOT = 256  # characters of an artifact address that fit into MLflow's column
NAMED = 100  # the most runs that a query lists by id, rather than select all of an experiment

_STATEMENTS = {  # in an order that foreign keys allow
    "runs": "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, source_version, user_id,"
    " status, start_time, end_time, deleted_time, lifecycle_stage, artifact_uri, experiment_id) VALUES"
    " (:run_id, :name, 'UNKNOWN', '', '', '', :user, :status, :start_ms, :end_ms, NULL, 'active', :artifact_uri,"
    " :experiment_id)",  # MLflow keeps the source in tags, and leaves the columns empty
    "states": "UPDATE runs SET status = :status, end_time = coalesce(:end_ms, end_time) WHERE run_uuid = :run_id",
    "params": "INSERT INTO params (run_uuid, key, value) VALUES (:run_id, :key, :value) ON CONFLICT DO NOTHING",
    "tags": "INSERT INTO tags (run_uuid, key, value) VALUES (:run_id, :key, :value)"
    " ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value",
    "metrics": "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan)"
    " VALUES (:run_id, :key, :value, :timestamp, :step, :is_nan) ON CONFLICT DO NOTHING",
    "latest": "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)"
    " VALUES (:run_id, :key, :value, :timestamp, :step, :is_nan) ON CONFLICT (key, run_uuid) DO UPDATE"
    " SET step = excluded.step, timestamp = excluded.timestamp, value = excluded.value, is_nan = excluded.is_nan"
    " WHERE (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)"  # as MLflow compares
    " < (excluded.step, excluded.timestamp, excluded.value)",
}
_ACTIVE_EXPERIMENT = "SELECT 1 FROM experiments WHERE experiment_id = ? AND lifecycle_stage = 'active'"
_COLUMNS = "run_uuid, experiment_id, status, start_time, end_time, artifact_uri"


class Rows:
    """Rows of a transaction, by the statement of ``_STATEMENTS`` that writes them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _STATEMENTS}

    def add_run(
        self,
        run_id: str,
        name: str,
        status: str,
        start_ms: int,
        end_ms: int | None,
        artifact_uri: str,
        experiment_id: str,
        user: str,
    ) -> None:
        """Add a new run; times are milliseconds since the epoch."""
        self._rows["runs"].append(
            {
                "run_id": run_id,
                "name": name,
                "user": user,
                "status": status,
                "start_ms": start_ms,
                "end_ms": end_ms,
                "artifact_uri": artifact_uri,
                "experiment_id": int(experiment_id),
            }
        )

    def add_state(self, run_id: str, status: str, end_ms: int | None) -> None:
        """Add a change of a run's status; ``end_ms`` None keeps its end."""
        self._rows["states"].append({"run_id": run_id, "status": status, "end_ms": end_ms})

    def add(self, table: str, run_id: str, values: Mapping[str, str]) -> None:
        """Add params or tags of a run; ``table`` is "params" or "tags"."""
        self._rows[table] += [{"run_id": run_id, "key": key, "value": value} for key, value in values.items()]

    def add_metrics(self, run_id: str, points: Iterable[Point]) -> None:
        """Add values of metrics of a run, to its history and as its latest values."""
        for point in points:
            value, is_nan = metric_out(point.value)
            row = {"run_id": run_id, "key": point.key, "value": value, "step": point.step}
            row |= {"timestamp": point.timestamp_ms, "is_nan": is_nan}
            self._rows["metrics"].append(row)
            self._rows["latest"].append(row)

    def write(self, database: Database, active: str = "") -> None:
        """Write all rows in one transaction.

        Args:
            active: the id of a run that must exist and not be deleted.

        Raises:
            ApiError: the run does not exist, or was deleted.
        """
        with database.transaction() as connection:
            if active:
                _require_active(connection.execute, active)
            for name, statement in _STATEMENTS.items():
                if self._rows[name]:
                    connection.executemany(statement, self._rows[name])


def _require_active(execute: Callable[..., Any], run_id: str) -> None:
    stage = execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
    if stage is None:
        raise ApiError(f"Run with id={run_id} not found", error_code="RESOURCE_DOES_NOT_EXIST")
    if stage[0] != "active":
        raise ApiError(f"run {run_id}: found a deleted run, need an active one", error_code="INVALID_PARAMETER_VALUE")


class SqliteApi:
    """An ``Api`` that works on the SQLite file itself.

    Args:
        official: opens MLflow's client, for rare operations.
    """

    def __init__(self, database: Database, official: Callable[[], Api]) -> None:
        self.database, self._official = database, official
        columns = {name for _, name, *_ in database.rows("PRAGMA table_info(experiments)")}
        self._ours = " AND workspace = 'default'" if "workspace" in columns else ""
        self._locations: dict[str, str] = {}

    def experiment(self, name: str) -> Group | None:
        """The MLflow experiment of a name; None if it does not exist."""
        query = f"SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?{self._ours}"  # noqa: S608
        rows = self.database.rows(query, name)
        return Group(str(rows[0][0]), rows[0][1] == "active") if rows else None

    def create_experiment(self, name: str, artifact_root: str | None, tags: Mapping[str, str]) -> str:
        """Create an experiment, and return its id."""
        if artifact_root is None or len(artifact_root) > LONGEST_ROOT:
            return self._official().create_experiment(name, artifact_root, tags)
        now_ms = int(time.time() * 1000)
        workspace = ("workspace",) if self._ours else ()
        columns = ("name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time", *workspace)
        values = (name, artifact_root, "active", now_ms, now_ms, *("default" for _ in workspace))
        into = f"INSERT INTO experiments ({', '.join(columns)}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608
        try:
            with self.database.transaction() as connection:
                experiment_id = connection.execute(into, values).lastrowid
                rows = [(key, value, experiment_id) for key, value in tags.items()]
                connection.executemany("INSERT INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            raise ApiError(f"experiment {name!r} already exists", error_code="RESOURCE_ALREADY_EXISTS") from None
        return str(experiment_id)

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an MLflow experiment."""
        with self.database.transaction() as connection:
            statement = "INSERT OR REPLACE INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?)"
            connection.executemany(statement, [(int(experiment_id), key, value) for key, value in tags.items()])

    def create_run(self, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> Run:
        """Create a run."""
        if not self.database.rows(_ACTIVE_EXPERIMENT, int(experiment_id)):
            raise ApiError(f"the experiment {experiment_id} was deleted", error_code="INVALID_STATE")
        run_id, rows = uuid.uuid4().hex, Rows()
        artifact_uri = self.artifact_uri(experiment_id, run_id)
        user = tags.get("mlflow.user", "unknown")
        rows.add_run(run_id, name, "RUNNING", started_ms, None, artifact_uri, experiment_id, user)
        rows.add("tags", run_id, {**tags, "mlflow.runName": name})
        rows.write(self.database)
        return self.run(run_id)

    def artifact_uri(self, experiment_id: str, run_id: str) -> str:
        """The address of a run's artifacts."""
        if experiment_id not in self._locations:
            query = "SELECT artifact_location FROM experiments WHERE experiment_id = ?"
            ((root,),) = self.database.rows(query, int(experiment_id))
            self._locations[experiment_id] = f"{root.rstrip('/')}/{RUN_ID}/artifacts"
        return self._locations[experiment_id].replace(RUN_ID, run_id)

    def run(self, run_id: str) -> Run:
        """One run."""
        runs = self._runs("run_uuid = ?", [run_id])
        if not runs:
            raise ApiError(f"Run with id={run_id} not found", error_code="RESOURCE_DOES_NOT_EXIST")
        return runs[0]

    def search(
        self,
        experiment_id: str,
        where: RunFilter,
        *,
        newest_first: bool = False,
        limit: int = 1000,
        token: str | None = None,
    ) -> Page:
        """All matching runs in one page; ``limit`` and ``token`` are ignored."""
        conditions, values = ["experiment_id = ?", "lifecycle_stage = ?"], [int(experiment_id), "active"]
        if where.deleted:
            values[1] = "deleted"
        tagged = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value {} ?)"
        for key, value in where.tags.items():
            conditions.append(tagged.format("="))
            values += [key, value]
        for key, prefix in where.prefixes.items():
            conditions.append(tagged.format("LIKE"))
            values += [key, f"{prefix}%"]
        for sign, bound in ((">=", where.since_ms), ("<", where.before_ms)):
            if bound is not None:
                conditions.append(f"start_time {sign} ?")
                values.append(bound)
        if where.run_ids is not None:
            conditions.append("run_uuid IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(where.run_ids))
        direction = "DESC" if newest_first else "ASC"
        return Page(self._runs(" AND ".join(conditions), values, f" ORDER BY start_time {direction}, run_uuid"), None)

    def _runs(self, condition: str, values: Sequence[Any], order: str = "") -> list[Run]:
        query = f"SELECT {_COLUMNS} FROM runs WHERE {condition}{order}"  # noqa: S608 - of constant parts
        rows = self.database.rows(query, *values)
        ids = json.dumps([run_id for run_id, *_ in rows])
        tags, params, metrics = (self._by_run(table, columns, ids) for table, columns in _BESIDE.items())
        return [
            Run(
                *(run_id, str(experiment_id), *fields),
                tags={key: _text(value) for key, value in tags.get(run_id, {}).items()},
                params={key: _text(value) for key, value in params.get(run_id, {}).items()},
                metrics=metrics.get(run_id, {}),
            )
            for run_id, experiment_id, *fields in rows
        ]

    def _by_run(self, table: str, value: str, ids: str) -> dict[str, dict[str, Any]]:
        query = f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN (SELECT value FROM json_each(?))"  # noqa: S608
        by_run: dict[str, dict[str, Any]] = {}
        for run_id, key, content in self.database.rows(query, ids):
            by_run.setdefault(run_id, {})[key] = float("nan") if content is None else content
        return by_run

    def log_batch(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]
    ) -> None:
        """Log params, tags and metrics of a run, in one transaction."""
        rows = Rows()
        rows.add("params", run_id, params)
        rows.add("tags", run_id, tags)
        rows.add_metrics(run_id, metrics)
        rows.write(self.database, active=run_id)

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set the status of a run, and its end in milliseconds since the epoch, if given."""
        rows = Rows()
        rows.add_state(run_id, status, ended_ms)
        rows.write(self.database, active=run_id)

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        with self.database.transaction() as connection:
            _require_active(connection.execute, run_id)
            query = "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = ? WHERE run_uuid = ?"
            connection.execute(query, (int(time.time() * 1000), run_id))

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """All values of a metric, in the order in which they were logged."""
        query = "SELECT value, is_nan, timestamp, step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY rowid"
        return [
            Point(key, float("nan") if is_nan else value, timestamp, step)
            for value, is_nan, timestamp, step in self.database.rows(query, run_id, key)
        ]


def _text(value: object) -> str:
    """The value of a text column as text: SQLite stores values of any type in it."""
    return value if isinstance(value, str) else "" if value is None else str(value)


_BESIDE = {"tags": "value", "params": "value", "latest_metrics": "CASE is_nan WHEN 1 THEN NULL ELSE value END"}


class SqliteBackend:
    """A backend that reads and writes the trials of an experiment in bulk."""

    def __init__(self, api: SqliteApi, faults: Faults) -> None:
        self._api, self._database, self._faults = api, api.database, faults
        self._reserved: dict[tuple[str, str], str] = {}  # run ids, by parent run and trial

    def create(self, experiment_id: str, parent: str, entries: Sequence[Entry]) -> list[tuple[str, str]]:
        """Choose the ids of new runs; ``write`` inserts their rows."""
        ids = [self._reserved.pop((parent, entry.name), "") or uuid.uuid4().hex for entry in entries]
        return [
            (run_id, self._faults.run(lambda id=run_id: self._api.artifact_uri(experiment_id, id))) for run_id in ids
        ]

    def reserve(self, parent: str, trial_id: str) -> str:
        """Choose the id that the run of a new trial will have."""
        return self._reserved.setdefault((parent, trial_id), uuid.uuid4().hex)

    def write(self, experiment_id: str, entries: Sequence[tuple[str, str, Entry]]) -> None:
        """Write all entries in one transaction."""
        rows = Rows()
        for run_id, artifact_uri, entry in entries:
            _collect(rows, run_id, artifact_uri, experiment_id, entry)
        self._faults.run(lambda: rows.write(self._database))

    def rows(self, experiment_id: str, parent: str, trial_ids: Sequence[str] | None = None) -> list[Row]:
        """The trials of an experiment, or only those with the given ids."""
        return self._faults.run(lambda: self._rows(*_children(parent, trial_ids)))

    def _rows(self, children: str, values: Sequence[str]) -> list[Row]:
        by_run: dict[str, dict[str, str]] = {}
        query = f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN ({children}) AND key GLOB 'katib_flow.*'"  # noqa: S608
        for run_id, key, value in self._database.rows(query, *values):
            by_run.setdefault(run_id, {})[key] = _text(value)
        query = (
            "SELECT run_uuid, start_time, end_time, artifact_uri FROM runs"  # noqa: S608 - of constant parts
            f" WHERE run_uuid IN ({children}) AND lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
        )
        return [
            Row(run_id, start, end, by_run[run_id], uri)
            for run_id, start, end, uri in self._database.rows(query, *values)
            if "katib_flow.trial_id" in by_run.get(run_id, {})
        ]

    def series(self, parent: str, rows: Sequence[Row]) -> dict[str, list[Point]]:
        """All metrics of some runs, by run id."""
        series: dict[str, list[Point]] = {row.run_id: [] for row in rows}
        for run_id, key, value, is_nan, timestamp, step in self._faults.run(lambda: self._points(parent, rows)):
            if run_id in series:
                series[run_id].append(Point(key, float("nan") if is_nan else value, timestamp, step))
        return series

    def _points(self, parent: str, rows: Sequence[Row]) -> list[Any]:
        runs, values = _children(parent, None)
        if len(rows) <= NAMED:
            runs, values = "SELECT value FROM json_each(?)", [json.dumps([row.run_id for row in rows])]
        query = f"SELECT run_uuid, key, value, is_nan, timestamp, step FROM metrics WHERE run_uuid IN ({runs})"  # noqa: S608
        return self._database.rows(f"{query} ORDER BY metrics.rowid", *values)

    def tags(self, run_id: str) -> Mapping[str, str]:
        """The tags of a run."""
        query = "SELECT key, value FROM tags WHERE run_uuid = ?"
        return {key: _text(value) for key, value in self._faults.run(lambda: self._database.rows(query, run_id))}


def _children(parent: str, trial_ids: Sequence[str] | None) -> tuple[str, list[str]]:
    """A query for the ids of a parent's child runs, and its values."""
    query, values = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?", [PARENT, parent]
    if trial_ids is not None:
        query += " INTERSECT SELECT run_uuid FROM tags WHERE key = 'katib_flow.trial_id'"
        query += " AND value IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(list(trial_ids)))
    return query, values


def _collect(rows: Rows, run_id: str, artifact_uri: str, experiment_id: str, entry: Entry) -> None:
    """Add the rows of an entry for every table."""

    tags = {**entry.identity, **entry.tags, **entry.artifact_tags}
    if entry.identity:
        user = entry.identity.get("mlflow.user", "unknown")
        tags["mlflow.runName"] = entry.name
        ends = entry.started_ms, entry.ended_ms
        rows.add_run(run_id, entry.name, entry.status, *ends, artifact_uri, experiment_id, user)
    else:
        rows.add_state(run_id, entry.status, entry.ended_ms)
    rows.add("params", run_id, entry.params)
    rows.add("tags", run_id, tags)
    rows.add_metrics(run_id, entry.metrics)
