"""Opens a store: locates it, checks that it answers, and chooses the client for it.

MLflow itself takes two to four seconds to import. So a server is used through its REST API, and a SQLite file with a
schema that we know is created, read and written directly; MLflow's own client serves every other store.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from katib_flow.errors import TrackingError
from katib_flow.tracking import fresh
from katib_flow.tracking.api import Api
from katib_flow.tracking.database import Database, check_is_mlflows, check_writable, is_known, revisions_of
from katib_flow.tracking.faults import Faults
from katib_flow.tracking.official import MlflowApi, check_not_newer, contact
from katib_flow.tracking.rest import RestApi
from katib_flow.tracking.server import Server, connection
from katib_flow.tracking.sqlite import SqliteApi

DEFAULT = "katib_flow.db"
CONTACT_SECONDS = 5.0  # the timeout of the first request


def located(uri: str | None) -> tuple[str, Path | None]:
    """The full address of a store, and the path of its file if it is SQLite.

    Args:
        uri: None for MLFLOW_TRACKING_URI or, without that, ``katib_flow.db`` in the working directory.

    Raises:
        TrackingError: the address is that of a SQLite database in memory.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT}"
    if not uri.startswith("sqlite:"):
        return uri, None
    name, _, options = uri.removeprefix("sqlite:///").partition("?")
    if not uri.startswith("sqlite:///") or not name or ":memory:" in name or "mode=memory" in options:
        raise TrackingError(f"{uri}: found a store in memory, need a file: sqlite:///PATH")
    path = Path(name).absolute()
    return f"sqlite:///{path}" + (f"?{options}" if options else ""), path


def artifact_root(path: Path) -> Path:
    """The directory of the artifacts of a SQLite store, beside its file."""
    return path.with_name("katib_flow_artifacts" if path.name == DEFAULT else f"{path.stem}_artifacts")


class Connection:
    """The connection to a store.

    Args:
        path: the file of a SQLite store; None for any other store.
        thin: False to use MLflow's own client for every store.
    """

    def __init__(self, uri: str, path: Path | None, faults: Faults, *, thin: bool = True) -> None:
        self._uri, self._path, self._faults, self._thin = uri, path, faults, thin

    @cached_property
    def server(self) -> Server | None:
        """The server, if the store is used through the REST API; else None."""
        return connection(self._uri) if self._thin and self._uri.startswith("http") else None

    def open(self, contact_seconds: float) -> Api:
        """Open the store, and check that it answers.

        Raises:
            TrackingError: it does not answer within ``contact_seconds``, or cannot be written.
        """
        if self.server is not None:
            api = RestApi(self.server)
            self._faults.run(lambda: api.contact(min(CONTACT_SECONDS, contact_seconds)), contact_seconds)
            return api
        if self._path is None:
            self._faults.run(lambda: contact(self._uri, min(CONTACT_SECONDS, contact_seconds)), contact_seconds)
            return self._official
        known = is_known(self._path)
        if not known:
            check_is_mlflows(self._path)
            if revisions := revisions_of(self._path):
                check_not_newer(self._path, revisions)
        check_writable(self._path)
        return self._open_file(self._path, known=known)

    def _open_file(self, path: Path, *, known: bool) -> Api:
        thin = self._thin and "?" not in self._uri
        if not thin or not known:
            with alone(path):  # MLflow's migrations of a new file must not run twice at the same time
                there = thin and (is_known(path) or self._faults.run(lambda: fresh.make(path)))
                official = None if there else self._official
            if official is not None and (not thin or not is_known(path)):
                return official
        return self._faults.run(lambda: SqliteApi(Database(path), lambda: self._official))

    @cached_property
    def _official(self) -> MlflowApi:
        return self._faults.run(lambda: MlflowApi(self._uri))


@contextmanager
def alone(path: Path | None) -> Generator[None]:
    """Hold a lock on a SQLite store among the processes of this machine; None locks nothing.

    The lock is on the directory of the file, so that no file is created.
    """
    if path is None:
        yield
        return
    directory_fd = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a network's file system may not lock directories
            fcntl.flock(directory_fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory_fd)
