"""Opening a store: where it is, that it answers, and how our SQLite file is set.

A SQLite file is put into write-ahead logging with ``synchronous=NORMAL``: a process that is killed, by ``kill -9`` too,
loses nothing it committed, readers and one writer do not wait for each other, and only a crash of the whole machine may
take the last moments with it. Two processes that write at once wait for each other (the busy timeout).
"""

import fcntl
import hashlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from katib_flow.errors import TrackingError
from katib_flow.tracking.faults import Faults

DEFAULT = "katib_flow.db"
BUSY_SECONDS = 20
_PRAGMAS = (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-16000")


def located(uri: str | None) -> tuple[str, Path | None]:
    """The full address of a store, and its file where it is SQLite; None stands for the user's default."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT}"
    if not uri.startswith("sqlite:"):
        return uri, None
    name, _, options = uri.removeprefix("sqlite:///").partition("?")
    if not uri.startswith("sqlite:///") or not name or ":memory:" in name or "mode=memory" in options:
        raise TrackingError(f"{uri}: found a store in memory, need a file, sqlite:///PATH")
    path = Path(name).absolute()
    return f"sqlite:///{path}" + (f"?{options}" if options else ""), path


def artifact_root(path: Path) -> Path:
    """Where the artifacts of a SQLite store are: beside it."""
    return path.with_name("katib_flow_artifacts" if path.name == DEFAULT else f"{path.stem}_artifacts")


def open_client(uri: str, path: Path | None, faults: Faults, contact_seconds: float) -> Any:
    """An ``MlflowClient`` of a store that was found to answer.

    Raises:
        TrackingError: it does not, within ``contact_seconds``, or cannot be written.
    """
    _quiet()
    if uri.startswith("http"):
        # MLflow's own retries take minutes before anything is said; ours come on top of what is left of them
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    if path is not None:
        _check_file(path)
    from mlflow import MlflowClient

    if path is None:
        client = faults.run(lambda: MlflowClient(tracking_uri=uri), contact_seconds)
        if uri.startswith("http"):
            faults.run(lambda: _contact(client, contact_seconds), contact_seconds)
        return client
    with alone(path):  # MLflow's own migrations of a new file do not bear two at once
        client = faults.run(lambda: MlflowClient(tracking_uri=uri))
    _tune(store_of(client))
    return client


def store_of(client: Any) -> Any:
    """MLflow's store behind a client (a ``SqlAlchemyStore``, ``RestStore``, ...), None where MLflow hides it."""
    return getattr(getattr(client, "_tracking_client", None), "store", None)


def _quiet() -> None:
    """MLflow tells of migrations and downloads, and prints tracebacks where we say a sentence; it only confuses.

    Nor does it send usage data from here, unless the user's environment says so.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for name in ("alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _contact(client: Any, contact_seconds: float) -> None:
    """One cheap call with a short timeout, so that a wrong address is told in seconds."""
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    endpoint = "/api/2.0/mlflow/experiments/search"
    response = http_request(
        store_of(client).get_host_creds(),
        endpoint,
        "GET",
        params={"max_results": 1},
        timeout=min(5.0, contact_seconds),
        max_retries=0,
        raise_on_status=False,
    )
    try:
        verify_rest_response(response, endpoint)
    except Exception as error:
        error.response = response  # type: ignore[attr-defined]  # MLflow drops the status where the answer is JSON
        raise


def _check_file(path: Path) -> None:
    """Make sure a SQLite file can be written, and put it into write-ahead logging."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        if "locked" in str(error):  # another process writes, so it can be written
            return
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise TrackingError(f"{path}: the MLflow store cannot be created or written: {reason}") from error


@contextmanager
def alone(path: Path | None) -> Generator[None]:
    """Hold a lock on a SQLite store among the processes of this machine, in a file of the temporary directory."""
    if path is None:
        yield
        return
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    lock = Path(tempfile.gettempdir()) / f"katib-flow-{os.getuid()}-{name}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tune(store: Any) -> None:
    """Set each connection that MLflow opens to our SQLite file, from now on."""
    engine = getattr(store, "engine", None)
    if engine is None:
        return
    from sqlalchemy import event

    if not event.contains(engine, "connect", _on_connect):
        event.listen(engine, "connect", _on_connect)
        engine.dispose()  # the connections that were made before are made anew


def _on_connect(connection: Any, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
