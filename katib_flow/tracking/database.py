"""MLflow's SQLite file, opened without MLflow: the schema revisions that we know, connections, transactions.

A SQLite file is switched to write-ahead logging with ``synchronous=NORMAL``: a process that is killed, even by
``kill -9``, loses nothing that it has committed, readers and one writer do not wait for each other, and only a crash of
the whole machine may lose the last moments. Two processes that write at once wait for each other (the busy timeout).
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from katib_flow.errors import TrackingError

BUSY_SECONDS = 20
PRAGMAS = (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-16000")

KNOWN = frozenset(
    [
        "bf29a5ff90ea",
        "1bd49d398cd23",
        "b7c8d9e0f1a2",
        "5d2d30f0abce",
        "c9d4e5f6a7b8",
        "2c33131f4dae",
        "d3e4f5a6b7c8",
        "d0e1f2a3b4c5",
        "c8d9e0f1a2b3",
        "1b5f0d9ad7c1",
        "e1f2a3b4c5d6",
        "76601a5f987d",
        "c3d6457b6d8a",
        "a5b4c3d2e1f0",
        "ae8bbe7743c9",
        "7d34483879f0",
        "da6fb0208061",
        "89d3d66ed43f",
        "b7e4c1a90f23",
        "a8b9c0d1e2f3",
        "c1d2e3f4a5b6",
        "c3d9e7f1a2b4",
        "6f8d9c3b2a1e",
        "1971f2d9a75b",
        "17e22815139b",
        "b7e2c1a4d9f3",
        "75868b020152",
        "dc11669786a5",
    ]
)
"""Revisions of MLflow's schema, from MLflow 3.5 on, in which the tables of runs are as we read and write them."""


MLFLOWS = frozenset({"alembic_version", "experiments", "runs"})
"""Every store has at least one of these tables, even if its creation was cut short."""


class Database:
    """A SQLite store of MLflow, with one connection per thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _file(path)
        self._local = threading.local()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, outside a transaction.

        Raises:
            TrackingError: the file was deleted or replaced. SQLite would continue to write to the old one.
        """
        if _file(self.path) != self._file:
            happened = "replaced by another file" if self.path.exists() else "deleted"
            raise TrackingError(f"{self.path}: the MLflow store was {happened} while it was in use")
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._local.connection = connection
        return connection

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query; ``values`` are its parameters."""
        return self.connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Run the block in a transaction, which is rolled back if the block raises an error."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _file(path: Path) -> tuple[int, int] | None:
    """The device and inode of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def revisions_of(path: Path) -> frozenset[str]:
    """The revisions of MLflow's schema that a file records; empty if it records no revision or cannot be read."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            return frozenset(revision for (revision,) in connection.execute("SELECT version_num FROM alembic_version"))
    except sqlite3.Error:
        return frozenset()


def is_known(path: Path) -> bool:
    """True if a file has MLflow's tables in a revision that we know."""
    revisions = revisions_of(path)
    return len(revisions) == 1 and revisions <= KNOWN


def check_is_mlflows(path: Path) -> None:
    """Check that an existing file is an MLflow store, so that no tables are added to another program's database.

    Raises:
        TrackingError: the file is not a SQLite database, or belongs to another program.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=BUSY_SECONDS, uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        if "not a database" not in str(error):  # locked, for example: the next write raises the error
            return
        raise TrackingError(f"{path}: found a file that is not a SQLite database, need an MLflow store") from error
    if tables and not tables & MLFLOWS:
        some = ", ".join(sorted(tables)[:3])
        what = f"a SQLite database of another program, with the tables {some}"
        raise TrackingError(f"{path}: found {what}, need an MLflow store, or the path of a new file")


def check_writable(path: Path) -> None:
    """Check that a SQLite file can be written, and switch it to write-ahead logging.

    Raises:
        TrackingError: it cannot be created or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        if "locked" in str(error):  # another process writes, so it can be written
            return
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise TrackingError(f"{path}: the MLflow store cannot be created or written: {reason}") from error
