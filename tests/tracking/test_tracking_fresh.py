"""A new store that is made without MLflow is the one that MLflow makes."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kit import experiment

from katib_flow.tracking import Store, fresh

KNOWN_HERE = fresh.FILE.read_text(encoding="utf-8").startswith(f"-- migrations {fresh.migrations()}\n")
needs_same = pytest.mark.skipif(
    not KNOWN_HERE, reason="fresh.sql is of another MLflow than the one that is installed: make schema"
)
TIMES = ("creation_time", "last_update_time")


def content(path: Path) -> dict[str, Any]:
    """The tables and indexes of a store, and its rows but for times."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        master = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_master")
        parts = sorted((name, kind, of, _in_order(sql)) for name, kind, of, sql in master)
        rows: dict[str, Any] = {"": parts}
        for name, kind, *_ in parts:
            if kind == "table":
                table = map(dict, connection.execute(f'SELECT * FROM "{name}"'))
                rows[name] = [{key: value for key, value in row.items() if key not in TIMES} for row in table]
    return rows


def _in_order(sql: str | None) -> list[str]:
    """The lines of a statement, sorted: MLflow's migrations write a table's constraints in no certain order."""
    return sorted(line.strip(" \t,") for line in (sql or "").splitlines())


@needs_same
def test_a_new_store_is_as_mlflow_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, thin in (("quick", True), ("slow", False)):
        (tmp_path / name).mkdir()
        store = Store(f"sqlite:///{tmp_path / name / 'store.db'}", thin=thin)
        store._mlflow_experiment(create=True)
    quick, slow = (content(tmp_path / name / "store.db") for name in ("quick", "slow"))
    (root,) = [row for row in quick["experiments"] if row["name"] == "katib-flow"]
    root["artifact_location"] = root["artifact_location"].replace("/quick/", "/slow/")
    assert quick.keys() == slow.keys()
    for table in slow:
        assert quick[table] == slow[table], table


@needs_same
def test_a_new_store_is_made_without_importing_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from katib_flow.tracking import Store; "
        "Store('sqlite:///katib_flow.db')._mlflow_experiment(create=True); "
        "print(sorted({'mlflow', 'sqlalchemy', 'alembic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_with_another_mlflow_the_store_is_made_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.sql"
    other.write_text("-- migrations of another\nCREATE TABLE nothing (x);\n")
    monkeypatch.setattr(fresh, "FILE", other)
    store = Store(f"sqlite:///{tmp_path}/store.db")
    assert store.create(experiment()).name == "digits-mlp"
    assert "nothing" not in content(tmp_path / "store.db")


@needs_same
def test_a_store_that_could_not_be_made_whole_is_empty_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, broken = tmp_path / "store.db", tmp_path / "broken.sql"
    broken.write_text(fresh.FILE.read_text() + "CREATE TABLE;\n")
    with monkeypatch.context() as patch:
        patch.setattr(fresh, "FILE", broken)
        with pytest.raises(sqlite3.OperationalError):
            fresh.make(path)
    assert content(path) == {"": []}
    assert fresh.make(path)
    assert not fresh.make(path)  # it has tables now
    assert Store(f"sqlite:///{path}").create(experiment()).name == "digits-mlp"


def test_two_that_make_the_same_mlflow_experiment_agree(tmp_path: Path) -> None:
    one, other = Store(f"sqlite:///{tmp_path}/store.db"), Store(f"sqlite:///{tmp_path}/store.db")
    assert one._mlflow_experiment(create=False) == other._mlflow_experiment(create=False) == ""
    assert one._mlflow_experiment(create=True) == other._mlflow_experiment(create=True)
