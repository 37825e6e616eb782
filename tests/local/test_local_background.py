"""An experiment in the background: it is watched, stopped and waited for, and ends with the program."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from kit import within

import katib_flow as kf
from katib_flow.errors import InvalidSpec
from katib_flow.history import State
from katib_flow.local import resume_experiment
from katib_flow.tracking import Status, Store

SPACE = {"x": kf.Float(0, 1)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def waiting(**changes: Any) -> Any:
    """An experiment whose trials, but for the first, wait until a file is there."""
    settings: dict[str, Any] = {"parameters": SPACE, "minimize": "loss", "algorithm": "random", "max_trials": 3}

    @kf.experiment(**(settings | changes), name="toy")
    def train(x: float) -> float:
        import os
        import time

        first = "t00000" in os.environ["KATIB_FLOW_TRIAL_FILE"]
        while not first and not os.path.exists("go"):
            time.sleep(0.01)
        return x

    return train


def is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("katib-flow")


def test_it_is_seen_while_it_runs_and_waited_for(here: Path) -> None:
    running = waiting().start()
    assert running.status is Status.RUNNING
    assert within(60, lambda: len(running.trials) == 2)
    assert [trial.state for trial in running.trials] == [State.SUCCEEDED, State.RUNNING]
    assert running.best == running.trials[0]
    assert "toy: running; 1 running, 1 succeeded" in running._repr_html_()
    with pytest.raises(TimeoutError, match=r"toy: still running after 0.01 s; it continues"):
        running.wait(0.01)
    (here / "go").touch()
    result = running.wait(60)
    assert (running.status, result.status, len(result.trials)) == (Status.SUCCEEDED, Status.SUCCEEDED, 3)
    assert running.trials == result.trials
    assert running.best == result.best
    assert running.wait() is result
    assert "succeeded, reached limits.max_trials (3); 3 succeeded" in running._repr_html_()
    assert repr(running) == "<Running toy: succeeded, reached limits.max_trials (3); 3 succeeded>"
    assert "toy: succeeded, reached limits.max_trials (3)" in result._repr_html_()
    assert result._repr_html_().count("<tr>") == 4
    assert within(5, lambda: not any(map(is_ours, threading.enumerate())))


def test_it_is_stopped_in_order_and_can_be_gone_on_with(here: Path) -> None:
    running = kf.start(waiting())
    assert within(60, lambda: len(running.trials) == 2)
    running.stop()
    result = running.wait(60)
    assert (result.status, result.reason) == (Status.STOPPED, "stopped by the user")
    assert [trial.state for trial in result.trials] == [State.SUCCEEDED, State.KILLED]
    record = Store().find("toy")
    assert (record.status, record.lease) == (Status.STOPPED, None)
    (here / "go").touch()
    assert len(resume_experiment(Store(), "toy").trials) == 3


def test_one_that_is_stopped_before_it_began_starts_no_trial() -> None:
    running = waiting().start()
    running.stop()
    result = running.wait(60)
    assert (result.status, result.trials) == (Status.STOPPED, ())


def test_what_ends_it_is_told_and_raised_by_who_waits(capsys: pytest.CaptureFixture[str]) -> None:
    data = {
        "name": "toy",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "limits": {"max_trials": 1},
        "trial": {"function": "no_such_module:b"},
    }
    running = kf.start(kf.Experiment.parse(data))
    with pytest.raises(InvalidSpec, match="no_such_module:b"):
        running.wait(60)
    assert running.status is Status.FAILED
    assert "toy: ended with an error, which wait() raises: toy: trial.function: found" in capsys.readouterr().err
    assert "no_such_module:b" in running._repr_html_()
    assert running.trials == ()


def test_a_mistake_in_the_spec_is_told_at_once(here: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"limits: found nothing"):
        waiting(max_trials=None).start()
    with pytest.raises(InvalidSpec, match=r"kf.start: what: found 3, need an experiment"):
        kf.start(3)  # type: ignore[arg-type]
    assert list(here.iterdir()) == []


PROGRAM = """
import os, time
from pathlib import Path
import katib_flow as kf

@kf.experiment(parameters={"x": kf.Float(0, 1)}, minimize="loss", max_trials=2, name="left")
def train(x):
    Path("pid").write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    running = train.start()
    WAIT
    print("leaving")
"""


@pytest.mark.parametrize("when", ["while a trial runs", "before it has begun"])
def test_a_program_that_ends_ends_it_in_order(here: Path, when: str) -> None:
    wait = "while not Path('pid').exists(): time.sleep(0.01)" if when == "while a trial runs" else "pass"
    (here / "program.py").write_text(PROGRAM.replace("WAIT", wait))
    Store()  # it is there, so that the experiment begins while the program ends
    done = subprocess.run([sys.executable, "program.py"], cwd=here, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "leaving\n")
    assert "Traceback" not in done.stderr
    (record,) = Store().records()
    assert (record.status, record.lease) == (Status.INTERRUPTED, None)
    assert record.reason == "interrupted; resume it to continue"
    if when == "while a trial runs":
        assert [trial.state for trial in Store().history(record)] == [State.KILLED]
        pid = int((here / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    else:
        assert done.stderr == ""
        assert not (here / "pid").exists()
