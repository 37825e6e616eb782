"""Ctrl-C once, twice, three times, as a terminal sends it: to every process of the foreground at once."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from katib_flow.history import State, Trial
from katib_flow.tracking import Status, Store

pytestmark = pytest.mark.slow
SECONDS = 60.0

MODULE = """\
import os, pathlib, signal, subprocess, sys, time

def stubborn(k):
    '''The first trial ends at once. The others do not end for SIGTERM, and have a child that does not either.'''
    import katib_flow as kf
    with open(f"started-{k}", "a") as file:
        file.write(".")
    kf.report(loss=k, token=time.monotonic_ns() // 1000, step=0)
    if k == 0 or pathlib.Path("resumed").exists():
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(f"pids-{k}.part").write_text(f"{os.getpid()} {child.pid}")
    os.rename(f"pids-{k}.part", f"pids-{k}")
    while not pathlib.Path(f"end-{k}").exists():
        time.sleep(0.02)
    child.kill()
    kf.report(loss=k, token=time.monotonic_ns() // 1000, step=1)
"""
PATIENT = """\
import katib_flow.trial.runner
katib_flow.trial.runner.GRACE_SECONDS = 1e9  # SIGTERM is all that a trial ever gets
"""


class Run:
    """A run of the command line, in a session of its own."""

    def __init__(self, here: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "katib_flow", *arguments]
        variables = {**os.environ, "PYTHONPATH": str(here / "patient"), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=here, env=variables, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        """Read what it prints until a line has a text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}, but {''.join(self.lines)}")

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def ctrl_c_until(self, condition: Any) -> None:
        """Press it again and again: two that come while it is in the database's hands are one."""
        for _ in range(10):
            self.ctrl_c()
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if condition():
                    return
                time.sleep(0.02)
        raise AssertionError(f"it goes on, and says {''.join(self.lines)}")

    def ended(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, "".join(self.lines) + out


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "user_module.py").write_text(MODULE)
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "sitecustomize.py").write_text(PATIENT)
    data: dict[str, Any] = {
        "name": "interrupted",
        "objective": {"metric": "loss", "direction": "minimize"},
        "additional_metrics": ["token"],
        "parameters": {"k": {"type": "int", "min": 0, "max": 2}},
        "algorithm": "grid",
        "limits": {"parallel_trials": 2},
        "trial": {"function": "user_module:stubborn"},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(data))
    yield tmp_path
    for file in tmp_path.glob("pids-*"):
        for pid in map(int, file.read_text().split()):
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def two_run(here: Path) -> None:
    until(lambda: (here / "pids-1").exists() and (here / "pids-2").exists(), "the second and third trial run")


def gone(here: Path, k: int) -> bool:
    """Whether a trial and its child are gone."""
    stats = [Path(f"/proc/{pid}/stat") for pid in (here / f"pids-{k}").read_text().split()]
    return not any(stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z" for stat in stats)


def recorded(here: Path) -> tuple[Status, list[Trial]]:
    store = Store(f"sqlite:///{here}/katib_flow.db")
    [record] = store.records()
    return record.status, list(store.history(record, series=True))


def started(here: Path) -> list[int]:
    return [len((here / f"started-{k}").read_text()) for k in range(3)]


def resumed(here: Path) -> list[Trial]:
    (here / "resumed").touch()
    code, out = Run(here, "resume", "interrupted").ended()
    assert code == 0, out
    status, trials = recorded(here)
    assert status is Status.SUCCEEDED
    assert [trial.state for trial in trials] == [State.SUCCEEDED] * 3
    return trials


def test_a_second_ctrl_c_kills_what_does_not_end_and_nothing_recorded_is_lost(here: Path) -> None:
    run = Run(here, "run", "spec.yaml")
    run.until("t00000 succeeded")
    two_run(here)
    until(
        lambda: ["loss" in trial.series for trial in recorded(here)[1]] == [True] * 3, "what they reported is in MLflow"
    )
    run.ctrl_c()
    run.until("Ctrl-C again")
    assert run.process.poll() is None
    assert not gone(here, 1)
    assert not gone(here, 2)
    run.ctrl_c()
    code, out = run.ended()
    assert code == 130, out
    assert "to continue: katib-flow resume interrupted" in out
    assert "Traceback" not in out
    until(lambda: gone(here, 1) and gone(here, 2), "both trials are gone, and their children")
    status, trials = recorded(here)
    assert status is Status.INTERRUPTED
    assert [trial.state for trial in trials] == [State.SUCCEEDED, State.KILLED, State.KILLED]
    assert [trial.series["loss"][0].value for trial in trials] == [0, 1, 2]  # what a killed one reported is there
    token = trials[0].observations["token"]
    assert resumed(here)[0].observations["token"] == token
    assert started(here) == [1, 2, 2]


def test_a_sigterm_to_every_process_fails_no_trial(here: Path) -> None:
    """As systemd, Slurm and timeout(1) send it; the workers are gone before they can say anything."""
    run = Run(here, "run", "spec.yaml")
    run.until("t00000 succeeded")
    two_run(here)
    os.killpg(run.process.pid, signal.SIGTERM)
    code, out = run.ended()
    assert code == 130, out
    until(lambda: gone(here, 1) and gone(here, 2), "both trials are gone, and their children")
    status, trials = recorded(here)
    assert status is Status.INTERRUPTED
    assert [trial.state for trial in trials] == [State.SUCCEEDED, State.KILLED, State.KILLED]
    resumed(here)


def test_after_one_ctrl_c_a_trial_that_ends_by_itself_is_waited_for(here: Path) -> None:
    run = Run(here, "run", "spec.yaml")
    two_run(here)
    run.ctrl_c()
    run.until("Ctrl-C again")
    for k in (1, 2):
        (here / f"end-{k}").touch()
    code, out = run.ended()
    assert code == 130, out
    status, trials = recorded(here)
    assert status is Status.INTERRUPTED
    assert [trial.state for trial in trials] == [State.SUCCEEDED, State.KILLED, State.KILLED]
    assert [len(trial.series["loss"]) for trial in trials] == [1, 2, 2]


def test_a_third_ctrl_c_ends_everything_while_the_store_is_away_and_what_had_ended_is_on_disk(here: Path) -> None:
    run = Run(here, "run", "spec.yaml")
    run.until("t00000 succeeded")
    two_run(here)
    until(lambda: State.SUCCEEDED in [trial.state for trial in recorded(here)[1]], "the first trial is in MLflow")
    with closing(sqlite3.connect(here / "katib_flow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # from here on nothing can be read or recorded
        (here / "end-1").touch()
        results = ".katib_flow/*/t00001/result.json"
        until(lambda: list(here.glob(results)), "the second trial has ended, and is on disk")
        run.ctrl_c_until(lambda: gone(here, 2))  # at the second one that it hears of
        run.ctrl_c_until(lambda: run.process.poll() is not None)
        code, out = run.ended()
        assert code == 130, out
        assert "Traceback" not in out
    [file] = here.glob(results)
    ended = {name: value for name, value, *_ in json.loads(file.read_text())["metrics"]}
    trials = resumed(here)
    assert trials[1].observations["token"] == ended["token"]
    assert started(here) == [1, 1, 2]
