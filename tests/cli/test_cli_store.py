"""Commands that only read, where there is no store yet, or a file that is not one."""

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from katib_flow.cli import main

READING = [
    ("status", "x"),
    ("best", "x"),
    ("trials", "x"),
    ("resume", "x"),
    ("stop", "x"),
    ("spec", "x"),
    ("replay", "x"),
]


@pytest.fixture
def error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What a command that is refused says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def error(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["katib-flow", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return error


def test_what_only_reads_makes_no_store(error, tmp_path, monkeypatch, capsys):
    for command in READING:
        message = f"{tmp_path}/katib_flow.db: no store exists yet; run an experiment here, or name a store with"
        assert message in error(*command), command
    monkeypatch.setattr("sys.argv", ["katib-flow", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out == "no experiments yet\n"
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_program_is_refused_and_left_as_it_is(error, tmp_path):
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE customers (name)")
        connection.commit()
    before = (tmp_path / "theirs.db").read_bytes()
    message = "found a SQLite database of another program, with the tables customers, need an MLflow store"
    (tmp_path / "spec.yaml").write_text(
        "name: x\nobjective: {metric: a, direction: maximize}\nparameters: {x: {type: int, min: 1, max: 3}}\n"
        "limits: {max_trials: 1}\ntrial: {command: [echo, a=1]}\n"
    )
    for command in (("list",), ("status", "x"), ("run", "spec.yaml")):
        assert message in error(*command, "--tracking-uri", "sqlite:///theirs.db"), command
    assert (tmp_path / "theirs.db").read_bytes() == before


def test_a_store_that_a_newer_mlflow_wrote_is_refused_and_left_as_it_is(error, tmp_path):
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        connection.execute("INSERT INTO alembic_version VALUES ('f00dfeedf00d')")
        connection.commit()

    def content() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "newer.db")) as connection:
            return list(connection.iterdump())

    before = content()
    unknown = f"which the installed MLflow {version('mlflow')} does not know"
    message = f"newer.db: found schema f00dfeedf00d, {unknown}; need an MLflow"
    for command in (("list",), ("status", "x"), ("resume", "x"), ("replay", "x")):
        said = error(*command, "--tracking-uri", "sqlite:///newer.db")
        assert message in said, command
        assert "upgrade" not in said
    assert content() == before


def test_a_file_that_is_no_database_is_refused(error, tmp_path):
    (tmp_path / "text.db").write_text("a text that is long enough for a header\n" * 40)
    assert "text.db: found a file that is not a SQLite database" in error("list", "--tracking-uri", "sqlite:///text.db")
