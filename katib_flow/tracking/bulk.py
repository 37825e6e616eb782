"""Many changes in one transaction, for MLflow's store on SQLite.

MLflow's client costs several milliseconds a call, three calls a trial. Trials that end within the same moment are
written together here, into the tables that MLflow's own client writes (a test holds the two paths against each other).
WAL with synchronous=NORMAL loses nothing that was committed when a process dies, only when the machine does.
"""

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from katib_flow.history import Trial
from katib_flow.tracking import codec
from katib_flow.tracking.records import Change, Record

_RUN = (
    "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time,"
    " source_version, lifecycle_stage, artifact_uri, experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, '', 'active', ?, ?)"
)
_STATUS = "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?"
_TAG = "INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)"
_PARAM = "INSERT OR IGNORE INTO params (key, value, run_uuid) VALUES (?, ?, ?)"
_METRIC = "INSERT OR IGNORE INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
_LATEST = (  # MLflow's latest is the greatest by step, then time, then value
    "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step,"
    " is_nan = excluded.is_nan WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)"
)
_TAGS_OF = (
    "SELECT t.run_uuid, t.key, t.value FROM tags t JOIN tags p ON p.run_uuid = t.run_uuid AND p.key = 'mlflow.parentRunId'"
    " JOIN runs r ON r.run_uuid = t.run_uuid"
    " WHERE p.value = ? AND r.lifecycle_stage = 'active' AND t.key LIKE 'katib\\_flow.%' ESCAPE '\\'"
)


class Bulk:
    """The grouped path of one SQLite store."""

    def __init__(self, engine: Any, artifact_location: str, user: str) -> None:
        import sqlalchemy

        self._engine, self._location, self._user = engine, artifact_location, user

        @sqlalchemy.event.listens_for(engine, "connect")
        def _(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA busy_timeout=30000")

        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        engine.dispose()  # connections made before now lack the settings

    def artifact_uri(self, run_id: str) -> str:
        return f"{self._location.rstrip('/')}/{run_id}/artifacts"

    def write(self, record: Record, changes: Sequence[Change], run_ids: Sequence[str]) -> list[str]:
        """Write all changes, or none; an empty run id makes a new run.

        Returns:
            The run ids, in the same order.
        """
        result: list[str] = []
        runs, statuses, tags, params, metrics = [], [], [], [], []  # type: ignore[var-annotated]
        for change, known in zip(changes, run_ids, strict=True):
            trial, run_id = change.trial, known or uuid.uuid4().hex
            result.append(run_id)
            status, ended = codec.run_status(trial.state), _ms(trial.ended) if trial.state.final else None
            fields = codec.trial_tags(trial, record.run_id, new=not known)
            if known:
                statuses.append((status, ended, run_id))
            else:
                started = _ms(trial.started or time.time())
                runs.append((run_id, trial.id, self._user, status, started, ended, self.artifact_uri(run_id), int(record.mlflow_experiment_id)))
                fields |= {codec.RUN_NAME: trial.id, "mlflow.user": self._user}
                params += [(name, text, run_id) for name, text in codec.trial_params(trial).items()]
            tags += [(name, text, run_id) for name, text in fields.items()]
            metrics += [(name, *_sane(value), timestamp, step, run_id) for name, value, timestamp, step in codec.numbers(change.metrics)]
        rows = [(name, value, timestamp, step, is_nan, run_id) for name, is_nan, value, timestamp, step, run_id in metrics]
        statements = ((_RUN, runs), (_STATUS, statuses), (_TAG, tags), (_PARAM, params), (_METRIC, rows), (_LATEST, rows))
        with self._engine.begin() as connection:
            for statement, values in statements:
                if values:
                    connection.exec_driver_sql(statement, values)
        return result

    def trials(self, record: Record) -> list[Trial]:
        """Every trial of an experiment, without its series."""
        tags: dict[str, dict[str, str]] = {}
        with self._engine.connect() as connection:
            rows: Iterable[tuple[str, str, str]] = connection.exec_driver_sql(_TAGS_OF, (record.run_id,))
            for run_id, name, value in rows:
                tags.setdefault(run_id, {})[name] = value
        return [codec.trial_of(run_id, each) for run_id, each in tags.items()]


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _sane(value: float) -> tuple[bool, float]:
    """(is NaN, value) as MLflow stores them: NaN as 0, infinity as the largest number."""
    if math.isnan(value):
        return True, 0.0
    return False, math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value
