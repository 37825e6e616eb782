"""Reach MLflow, and say clearly where it cannot be reached."""

import getpass
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from katib_flow.errors import TrackingError

DEFAULT_DATABASE = "katib_flow.db"
DEFAULT_ARTIFACTS = "katib_flow_artifacts"
FIRST_CONTACT_SECONDS = 10.0
PATIENCE_SECONDS = 300.0


def resolve(uri: str | None) -> str:
    """The store's URI: as given, else ``$MLFLOW_TRACKING_URI``, else SQLite in the current directory."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / DEFAULT_DATABASE}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def artifact_location(uri: str) -> str | None:
    """Where a SQLite store's artifacts go, beside it; a server decides for itself."""
    path = sqlite_path(uri)
    if path is None:
        return None
    return (path.parent / (DEFAULT_ARTIFACTS if path.name == DEFAULT_DATABASE else f"{path.stem}_artifacts")).as_uri()


def connect(uri: str) -> Any:
    """An MLflow client that has been heard from.

    Raises:
        TrackingError: the store does not answer, or cannot be written.
    """
    if path := sqlite_path(uri):
        _check_writable(path)
        uri = f"sqlite:///{path}"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.tracking.fluent import _logger  # noqa: F401, PLC2701  # pyright: ignore[reportUnusedImport]

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if urlparse(uri).scheme in ("http", "https"):
        _knock(uri)
    with translated(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def _knock(uri: str) -> None:
    """One quick request, so that a wrong address is known within seconds."""
    import requests

    try:
        requests.get(uri, timeout=FIRST_CONTACT_SECONDS)
    except requests.RequestException as error:
        raise TrackingError(f"MLflow at {uri} does not answer ({type(error).__name__}): check the address, and that the server runs") from None


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path, timeout=30) as database:
            database.execute("PRAGMA user_version")
        if not os.access(path if path.exists() else path.parent, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TrackingError(f"{path}: cannot be opened as MLflow's database: {reason}; name a store you may write to with --tracking-uri") from None


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """MLflow's errors as ours, each a clear message."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if "Invalid Host header" in text:
            text += "; start the server with --allowed-hosts naming the host in this address"
        raise TrackingError(f"MLflow at {uri}: {text[:500]}") from error


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help: the server is away or overloaded, or the database is locked."""
    cause = error.__cause__ or error
    text = f"{type(cause).__name__} {cause}"
    signs = ("Connection", "timed out", "Timeout", "Max retries", "database is locked", "429", "500", "502", "503", "504", "TEMPORARILY")
    return any(sign in text for sign in signs)


def user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a pod's user has no name
        return "unknown"
