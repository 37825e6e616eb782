"""Creates a SQLite store with the tables that MLflow would create, without MLflow.

Importing MLflow and running all of its migrations takes four seconds of processor time. Their result is in
``fresh.sql``, which is used if the installed MLflow has the same migrations as the one that wrote the file; with any
other, MLflow creates the store itself. ``make schema`` writes the file again.
"""

import hashlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

FILE = Path(__file__).with_name("fresh.sql")
_MIGRATIONS = "-- migrations "


def make(path: Path) -> bool:
    """Create the tables of a new store, in one transaction.

    Returns:
        False if the file has tables already, or the installed MLflow has other migrations than ``fresh.sql``.
    """
    head, _, script = FILE.read_text(encoding="utf-8").partition("\n")
    if head != _MIGRATIONS + migrations():
        return False
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return False
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}")
        now_ms, artifacts = int(time.time() * 1000), str(Path("mlruns/0").absolute())
        connection.execute(
            "INSERT INTO experiments VALUES (0, 'Default', ?, 'active', ?, ?, 'default')", (artifacts, now_ms, now_ms)
        )
        connection.execute("COMMIT")
    return True


def migrations() -> str:
    """A digest of the migrations of the installed MLflow; "" if MLflow, or its migrations, are not found."""
    package = find_spec("mlflow")  # a top-level package, so nothing is imported
    if package is None or package.origin is None:
        return ""
    versions = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    names = sorted(path.name for path in versions.glob("*.py"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""


def script_of(path: Path) -> str:
    """The SQL script for the tables of a new store that MLflow has created, with their rows except experiments."""
    return "".join(f"{line}\n" for line in _statements(path))


def _statements(path: Path) -> Iterator[str]:
    yield _MIGRATIONS + migrations()
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'trigger', type DESC, name"
        for (statement,) in connection.execute(query):  # tables, then their indexes, then triggers
            yield f"{statement};"
        for (revision,) in connection.execute("SELECT version_num FROM alembic_version"):
            yield f"INSERT INTO alembic_version VALUES ('{revision}');"  # noqa: S608 - MLflow's own
        for name, text, *_ in connection.execute("SELECT * FROM workspaces"):
            yield f"INSERT INTO workspaces VALUES ('{name}', '{text}', NULL, NULL, NULL);"  # noqa: S608


def main() -> None:
    """Write ``fresh.sql`` from the installed MLflow."""
    from katib_flow.tracking.official import MlflowApi

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        MlflowApi(f"sqlite:///{path}").experiment("Default")
        FILE.write_text(script_of(path), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")


if __name__ == "__main__":
    main()
