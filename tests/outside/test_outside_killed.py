"""A search whose scheduler is killed while it waits for a program goes on, once resumed, as it would have."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit import within

from katib_flow.history import State
from katib_flow.processes import status
from katib_flow.tracking import Store

pytestmark = pytest.mark.slow
HALTON = Path(__file__).parent / "programs" / "halton.py"
# The third question, after two trials, hangs once.
HANGS_ONCE = f"""\
import json, os, pathlib, subprocess, sys, time
asked = sys.stdin.read()
if json.loads(asked)["indices"][0] == 2 and not pathlib.Path("hung").exists():
    pathlib.Path("hung").write_text(str(os.getpid()))
    time.sleep(600)
sys.stdout.write(subprocess.run([sys.executable, {str(HALTON)!r}], input=asked, capture_output=True, text=True).stdout)
"""
TRIAL = "import sys; print(f'score={float(sys.argv[1])}')"


def spec(program: list[str]) -> dict[str, Any]:
    return {
        "name": "killed",
        "objective": {"metric": "score", "direction": "maximize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": {"command": program},
        "limits": {"max_trials": 4, "parallel_trials": 1},
        "trial": {"command": [sys.executable, "-c", TRIAL, "${x}"]},
    }


def outcome(directory: Path) -> tuple[list[Any], object]:
    """The trials, and the state that the program left."""
    store = Store(f"sqlite:///{directory}/katib_flow.db")
    record = store.find("killed")
    (newest, *_) = store.learnings.find(record)
    trials = [(trial.id, dict(trial.assignment), trial.state) for trial in store.history(record)]
    return trials, newest.content


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "katib_flow", *arguments]


def test_a_scheduler_that_is_killed_while_it_asks_goes_on_the_same(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for directory, program in ((undisturbed, [sys.executable, str(HALTON)]), (killed, [sys.executable, "program.py"])):
        directory.mkdir()
        (directory / "program.py").write_text(HANGS_ONCE)
        (directory / "spec.yaml").write_text(yaml.safe_dump(spec(program)))
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command("run", "spec.yaml"), cwd=undisturbed, check=True, **quiet)
    with subprocess.Popen(command("run", "spec.yaml"), cwd=killed, start_new_session=True, **quiet) as scheduler:
        assert within(60, lambda: (killed / "hung").exists() and bool((killed / "hung").read_text()))
        os.killpg(scheduler.pid, signal.SIGKILL)
    program = int((killed / "hung").read_text())
    assert within(10, lambda: status(program) is None)  # it ends with what asked it
    subprocess.run(command("resume", "killed"), cwd=killed, check=True, **quiet)
    trials, state = outcome(killed)
    assert (trials, state) == outcome(undisturbed)
    assert [trial[2] for trial in trials] == [State.SUCCEEDED] * 4
