"""A new SQLite store, its tables made as MLflow makes them, without MLflow.

Importing MLflow and running its migrations, one after another, takes four seconds of processor time, which is most of
the first minute. What they come to is in ``fresh.sql``, and it is taken where the MLflow that is installed has the very
migrations it was made with; with any other, MLflow makes the store itself. ``make schema`` writes the file anew.
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
    """Make the tables of a new store in a file that has none yet, all or nothing; whether that was done."""
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
    """What tells the migrations of the MLflow that is installed from those of others; "" where there is none."""
    package = find_spec("mlflow")  # of a package that is in no other: nothing is imported
    if package is None or package.origin is None:
        return ""
    versions = Path(package.origin).parent / "store" / "db_migrations" / "versions"
    names = sorted(path.name for path in versions.glob("*.py"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""


def script_of(path: Path) -> str:
    """What makes the tables of a store that MLflow has just made, with their rows but for its first experiment."""
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
    """Write the file, from the MLflow here."""
    from katib_flow.tracking.official import MlflowApi

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        MlflowApi(f"sqlite:///{path}").experiment("Default")
        FILE.write_text(script_of(path), encoding="utf-8")
    sys.stdout.write(f"wrote {FILE}\n")


if __name__ == "__main__":
    main()
