"""MLflow's own client, for the stores that our lightweight clients do not support. Slow to import."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import Any

from katib_flow.errors import TrackingError
from katib_flow.tracking.api import Group, Page, Run, RunFilter, order
from katib_flow.tracking.encode import Point

DATABASES = ("postgresql", "mysql", "mssql")
TIMEOUTS = {
    "psycopg": ("connect_timeout",),
    "psycopg2": ("connect_timeout",),
    "pg8000": ("timeout",),
    "mysqldb": ("connect_timeout", "read_timeout"),
    "pymysql": ("connect_timeout", "read_timeout"),
    "mysqlconnector": ("connection_timeout",),
    "pyodbc": ("timeout",),
    "pymssql": ("login_timeout",),
}
"""The names of the timeouts, in whole seconds, of SQLAlchemy's drivers."""


def contact(uri: str, seconds: float) -> None:
    """Connect to a database once, to notice one that does not answer: MLflow would try for 100 seconds.

    Args:
        seconds: the timeout, rounded up. A driver may use at least 2, and a timeout in the address takes precedence.
    """
    if uri.partition(":")[0].partition("+")[0] in DATABASES:
        from sqlalchemy import create_engine, make_url
        from sqlalchemy.pool import NullPool

        url = make_url(uri)
        names = set(TIMEOUTS.get(url.get_driver_name(), ())) - set(url.query)
        timeouts = dict.fromkeys(names, max(1, ceil(seconds)))
        create_engine(url, poolclass=NullPool, connect_args=timeouts).connect().close()


def check_not_newer(path: Path, revisions: Iterable[str]) -> None:
    """Check that the installed MLflow knows the schema of a file; MLflow itself calls an unknown schema outdated.

    Args:
        revisions: the revisions of the schema that the file records.

    Raises:
        TrackingError: the schema is unknown, so MLflow cannot migrate it.
    """
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    migrations = ScriptDirectory(str(files("mlflow") / "store" / "db_migrations"))
    for revision in revisions:
        try:
            migrations.get_revision(revision)
        except CommandError:
            here = f"which the installed MLflow {version('mlflow')} does not know"
            need = "an MLflow at least as new as the one that wrote the file"
            raise TrackingError(f"{path}: found schema {revision}, {here}; need {need}") from None


class MlflowApi:
    """An ``Api`` over ``MlflowClient``."""

    def __init__(self, uri: str) -> None:
        _quiet()
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=uri)

    @property
    def store(self) -> Any:
        """The store object behind MLflow's client, such as a ``SqlAlchemyStore``."""
        return self._client._tracking_client.store

    def experiment(self, name: str) -> Group | None:
        """The MLflow experiment of a name; None if it does not exist."""
        group = self._client.get_experiment_by_name(name)
        return None if group is None else Group(str(group.experiment_id), group.lifecycle_stage == "active")

    def create_experiment(self, name: str, artifact_root: str | None, tags: Mapping[str, str]) -> str:
        """Create an experiment, and return its id."""
        return str(self._client.create_experiment(name, artifact_root, tags=dict(tags)))

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an MLflow experiment, one call per tag."""
        for key, value in tags.items():
            self._client.set_experiment_tag(experiment_id, key, value)

    def create_run(self, experiment_id: str, started_ms: int, tags: Mapping[str, str], name: str) -> Run:
        """Create a run, with a single request."""
        return _run(self._client.create_run(experiment_id, started_ms, dict(tags), name))

    def run(self, run_id: str) -> Run:
        """One run."""
        return _run(self._client.get_run(run_id))

    def search(
        self,
        experiment_id: str,
        where: RunFilter,
        *,
        newest_first: bool = False,
        limit: int = 1000,
        token: str | None = None,
    ) -> Page:
        """Return a page of the matching runs, in the order of their start."""
        from mlflow.entities import ViewType

        page = self._client.search_runs(
            [experiment_id],
            where.text(),
            run_view_type=ViewType.DELETED_ONLY if where.deleted else ViewType.ACTIVE_ONLY,
            max_results=limit,
            order_by=[order(newest_first=newest_first)],
            page_token=token,
        )
        return Page([_run(run) for run in page], page.token or None)

    def log_batch(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: Sequence[Point]
    ) -> None:
        """Log params, tags and metrics of a run."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(point.key, point.value, point.timestamp_ms, point.step) for point in metrics],
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,  # overrides MLFLOW_ENABLE_ASYNC_LOGGING
        )

    def set_status(self, run_id: str, status: str, ended_ms: int | None) -> None:
        """Set the status without ``MlflowClient.set_terminated``, which sets an end even if None, and prints a link."""
        from mlflow.entities import RunStatus

        self.store.update_run_info(run_id, RunStatus.from_string(status), ended_ms, None)

    def delete_run(self, run_id: str) -> None:
        """Mark a run as deleted."""
        self._client.delete_run(run_id)

    def metric_history(self, run_id: str, key: str) -> list[Point]:
        """All values of a metric, in the order in which they were logged."""
        history = self._client.get_metric_history(run_id, key)
        return [Point(key, metric.value, metric.timestamp, metric.step) for metric in history]


def _run(run: Any) -> Run:
    info, data = run.info, run.data
    return Run(
        info.run_id,
        str(info.experiment_id),
        info.status,
        info.start_time,
        info.end_time,
        info.artifact_uri,
        data.tags,
        data.params,
        data.metrics,
    )


def _quiet() -> None:
    """Silence MLflow's messages about migrations and downloads, and its tracebacks, where we print one message.

    Also disable its telemetry, unless the user's environment enables it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for name in ("alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
