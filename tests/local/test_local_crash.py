"""What a scheduler that is killed leaves behind, and what resume makes of it."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import within

from katib_flow.cli.records import overview
from katib_flow.history import History, State
from katib_flow.local import resume_experiment, run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store

MODULE = """\
import pathlib, time

def tokens(x):
    '''Each run of a trial reports a number that no other run does.'''
    with open("started", "a") as file:
        file.write(".")
    time.sleep(0.02 * x)
    return {"loss": x, "token": time.monotonic_ns() // 1000}

def first_is_quick(k):
    if k and not pathlib.Path("resumed").exists():
        time.sleep(600)
    return k
"""
CHILD = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
TRIALS = 1000
KILLS = 20


def spec(**changes: Any) -> dict[str, Any]:
    data = {
        "name": "crash",
        "objective": {"metric": "loss", "direction": "minimize"},
        "additional_metrics": ["token"],
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "limits": {"max_trials": TRIALS, "parallel_trials": 2},
        "trial": {"function": "user_module:tokens"},
    }
    return data | changes


def go_on(directory: str, trials: int) -> None:
    """Begin the experiment, or go on with it; in a process of its own."""
    os.chdir(directory)
    sys.path.insert(0, directory)
    store = Store(f"sqlite:///{directory}/katib_flow.db")
    if store.records():
        resume_experiment(store, "crash", max_trials=trials)
    else:
        run_experiment(Experiment.parse(spec()), store=store)


def finished(directory: Path) -> dict[str, float]:
    """Trial -> token of every trial that has finished: in MLflow, or on disk for MLflow."""
    store, found = Store(f"sqlite:///{directory}/katib_flow.db"), {}
    for record in store.records():
        history = store.history(record)
        found |= {trial.id: trial.observations["token"] for trial in history if trial.state is State.SUCCEEDED}
    for path in directory.glob(".katib_flow/*/*/result.json"):
        result = json.loads(path.read_text())
        tokens = [value for name, value, *_ in result["metrics"] if name == "token"]
        if result["state"] == "succeeded":
            found.setdefault(path.parent.name, tokens[0])
    return found


@pytest.mark.slow
def test_a_scheduler_killed_at_any_moment_loses_no_finished_trial_and_runs_none_again(tmp_path: Path) -> None:
    (tmp_path / "user_module.py").write_text(MODULE)
    Store(f"sqlite:///{tmp_path}/katib_flow.db")
    context, rng = multiprocessing.get_context("forkserver"), random.Random(5)
    context.set_forkserver_preload(["mlflow", "katib_flow.local", "katib_flow.tracking.store"])
    seen: dict[str, float] = {}
    started = tmp_path / "started"
    started.touch()
    for kill in range(KILLS):
        process = context.Process(target=go_on, args=(str(tmp_path), TRIALS))
        process.start()
        if kill % 4:  # in the midst of its trials, the others while it starts
            enough = started.stat().st_size + rng.randrange(1, 25)
            assert within(60, lambda enough=enough: started.stat().st_size >= enough)
        process.join(rng.uniform(0, 0.1 if kill % 4 else 1.0))
        assert process.exitcode is None, "it ended before it could be killed"
        process.kill()
        process.join()
        now = finished(tmp_path)
        assert {trial: now.get(trial) for trial in seen} == seen
        seen = now
    assert len(seen) > KILLS
    total = max(int(trial[1:]) for trial in seen) + 5
    process = context.Process(target=go_on, args=(str(tmp_path), total))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    store = Store(f"sqlite:///{tmp_path}/katib_flow.db")
    (record,) = store.records()
    history = store.history(record)
    assert (record.status, record.reason) == (Status.SUCCEEDED, f"reached limits.max_trials ({total})")
    assert [trial.id for trial in history] == [f"t{index:05d}" for index in range(total)]
    assert {trial.state for trial in history} == {State.SUCCEEDED}
    assert {trial: tokens(history)[trial] for trial in seen} == seen
    assert runs(store, record.mlflow_experiment_id, record.run_id) == total


def tokens(history: History) -> dict[str, float]:
    return {trial.id: trial.observations["token"] for trial in history}


def runs(store: Store, experiment_id: str, parent: str) -> int:
    """Child runs in MLflow, by MLflow's own client."""
    from mlflow import MlflowClient

    where = f"tags.`mlflow.parentRunId` = '{parent}'"
    return len(MlflowClient(store.uri).search_runs([experiment_id], where, max_results=5000))


@pytest.mark.slow
def test_ctrl_c_ends_in_order_and_resume_goes_on(tmp_path: Path) -> None:
    (tmp_path / "user_module.py").write_text(MODULE)
    parameters = {"k": {"type": "int", "min": 0, "max": 3}}
    data = spec(
        name="interrupted", parameters=parameters, algorithm="grid", trial={"function": "user_module:first_is_quick"}
    )
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(data | {"additional_metrics": []}))

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "katib_flow", *arguments]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process = start("run", "spec.yaml")
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("t00000 succeeded (best so far): loss 0"), first
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "")
    assert "to continue: katib-flow resume interrupted" in out
    (tmp_path / "resumed").touch()
    out, error = start("resume", "interrupted").communicate(timeout=60)
    assert error == ""
    assert "the algorithm has nothing more to suggest: 4 succeeded" in out
    assert "t00000 succeeded" not in out.split("best trials of")[0]


@pytest.mark.slow
def test_a_trial_of_a_killed_scheduler_is_gone_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    script = "import subprocess, sys; subprocess.run([sys.executable, 'child.py'])"
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec(trial={"command": [sys.executable, "-c", script]})))
    process = subprocess.Popen([sys.executable, "-m", "katib_flow", "run", "spec.yaml"], cwd=tmp_path)
    assert within(60, lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    grandchild = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    assert within(15, lambda: not Path(f"/proc/{grandchild}").exists() or zombie(grandchild))


@pytest.mark.slow
def test_an_experiment_whose_scheduler_was_killed_shows_as_interrupted_until_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(
        yaml.safe_dump(spec(trial={"command": [sys.executable, "-c", "import time; time.sleep(600)"]}))
    )
    process = subprocess.Popen([sys.executable, "-m", "katib_flow", "run", "spec.yaml"])
    store = Store(f"sqlite:///{tmp_path}/katib_flow.db")
    assert within(60, lambda: bool(store.records()) and bool(store.history(store.find("crash"))))
    assert overview(store.find("crash"))["status"] == "running"
    process.kill()
    process.wait()
    assert within(15, lambda: overview(store.find("crash"))["status"] == "interrupted")
    assert overview(store.find("crash"))["reason"] == "its process is gone; resume it to continue"
    said = subprocess.run([sys.executable, "-m", "katib_flow", "stop", "crash"], capture_output=True, text=True)
    assert said.returncode == 2
    assert "crash: has already ended, interrupted: its process is gone; resume it to continue" in said.stderr
    monkeypatch.chdir("/")  # the store knows, not the directory
    assert overview(store.find("crash"))["status"] == "interrupted"


def zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
