"""The whole loop on stores that people have: the same trials as on a SQLite file, by the commands that users type."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from kit import within

from katib_flow.tracking import Store

SPEC = """\
name: stores
objective: {metric: loss, direction: minimize}
parameters: {x: {type: float, min: 0, max: 1}}
algorithm: {name: tpe, seed: 1}
limits: {max_trials: 4, parallel_trials: 2}
trial: {command: [python3, trial.py, "${x}"]}
"""
TRIAL = """\
import sys, time, pathlib
x = float(sys.argv[1])
pathlib.Path("started").open("a").write(f"{x}\\n")
while pathlib.Path("wait").exists():
    time.sleep(0.05)
print(f"loss={(x - 0.3) ** 2}")
"""
CREDENTIALS = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "a-long-password"}
KINDS = {"postgresql_uri": {}, "served_postgresql": {}, "guarded": CREDENTIALS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "trial.py").write_text(TRIAL)
    return tmp_path


def command(folder: Path, uri: str, variables: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "katib_flow", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(process: "subprocess.Popen[str]") -> str:
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    return text


def started(folder: Path) -> list[float]:
    """What trials got, in order; one that ran twice is there twice."""
    return sorted(map(float, (folder / "started").read_text().split()))


@pytest.fixture
def on_sqlite(folder: Path) -> list[float]:
    """What the trials get where the store is a file."""
    output(command(folder, f"sqlite:///{folder}/store.db", {}, "run", "spec.yaml"))
    values = started(folder)
    (folder / "started").unlink()
    return values


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiment_runs_is_read_and_goes_on(
    kind: str, folder: Path, on_sqlite: list[float], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, variables = request.getfixturevalue(kind), KINDS[kind]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    output(command(folder, uri, variables, "run", "spec.yaml"))
    assert started(folder) == on_sqlite

    status = json.loads(output(command(folder, uri, variables, "status", "stores", "-o", "json")))
    assert status["status"] == "succeeded"
    output(command(folder, uri, variables, "resume", "stores", "--max-trials", "6"))
    assert len(started(folder)) == 6
    output(command(folder, uri, variables, "report", "stores", "--out", "report.html"))
    assert "stores" in (folder / "report.html").read_text()

    store = Store(uri)
    history = store.history(store.find("stores"))
    assert sorted(float(trial.assignment["x"]) for trial in history) == started(folder)
    for trial in history:
        assert trial.observations["loss"] == pytest.approx((float(trial.assignment["x"]) - 0.3) ** 2)
        assert "loss=" in store.read_artifact(trial.run_id, "log.txt").read_text()


@pytest.mark.parametrize("kind", ["postgresql_uri", "served_postgresql"])
def test_a_database_that_is_away_for_a_while_is_waited_for(
    kind: str, folder: Path, postgresql: Any, request: pytest.FixtureRequest
) -> None:
    uri = request.getfixturevalue(kind)
    (folder / "wait").touch()
    (folder / "spec.yaml").write_text(SPEC.replace("name: stores", "name: away"))
    process = command(folder, uri, {}, "run", "spec.yaml")
    wait_until(lambda: (folder / "started").exists() and len(started(folder)) == 2, process)
    postgresql.stop()
    (folder / "wait").unlink()
    wait_until(lambda: len(list((folder / ".katib_flow").rglob("result*.json"))) > 0, process)
    postgresql.ensure_postgres_running()
    output(process)
    assert len(set(started(folder))) == len(started(folder)) == 4
    store = Store(uri)
    history = store.history(store.find("away"))
    assert sorted(float(trial.assignment["x"]) for trial in history if trial.observations) == started(folder)


def test_a_database_that_is_away_at_the_start_is_told_in_one_line(folder: Path, postgresql_uri: str) -> None:
    absent = postgresql_uri.partition("?")[0].replace("@/", "@127.0.0.1:1/")
    process = command(folder, absent, {}, "run", "spec.yaml")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in text
    assert "refused" in text


def wait_until(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for what a command does while it runs."""
    assert within(120, lambda: holds() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
