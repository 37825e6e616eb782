"""One trial in a worker, whatever the disk does."""

import errno
import json
import math
import os
from multiprocessing import Pipe
from pathlib import Path

import pytest

from katib_flow.history import Metric, State, Suggestion
from katib_flow.local import worker
from katib_flow.local.worker import Done, Run
from katib_flow.trial.outcome import Outcome, StopTrial
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.tracked import Tracked
from tests.kit import experiment


def test_a_result_that_cannot_be_written_is_handed_over_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = TrialDirectory(tmp_path / "t00000")
    directory.result.with_suffix(".part").mkdir(parents=True)
    here, there = Pipe()
    run = Run(Suggestion(0, {"lr": 0.1}), directory, Tracked("", "", ""))
    worker._run(there, experiment(trial={"command": ["echo", "accuracy=0.75"]}), run, None)
    messages = []
    while here.poll():
        messages.append(here.recv())
    done = messages[-1]
    assert isinstance(done, Done)
    assert (done.outcome.state, done.outcome.observations) == (State.SUCCEEDED, {"accuracy": 0.75})
    assert not directory.result.exists()


def no_room(*_: object, **__: object) -> Outcome:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def lost_for_want_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *messages: object) -> Outcome:
    """What becomes of a trial that finds no room on the disk, where some messages are waiting."""
    monkeypatch.setattr(worker, "run_trial", no_room)
    here, there = Pipe()
    for message in messages:
        here.send(message)
    run = Run(Suggestion(0, {"lr": 0.1}), TrialDirectory(tmp_path), Tracked("", "", ""))
    worker._run(there, experiment(trial={"command": ["echo"]}), run, None)
    done = here.recv()
    assert isinstance(done, Done)
    return done.outcome


def test_a_trial_that_finds_no_room_is_a_fault_of_the_machine_and_is_tried_again_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(worker, "FULL_SECONDS", 5.0)
    monkeypatch.setattr(worker.time, "monotonic", lambda: float(len(waits)))

    def poll(self: object, timeout: float = 0.0) -> bool:
        if timeout:
            waits.append(timeout)
        return False

    monkeypatch.setattr("multiprocessing.connection.Connection.poll", poll)
    outcome = lost_for_want_of_room(tmp_path, monkeypatch)
    assert (outcome.state, outcome.fault) == (State.FAILED, True)
    assert outcome.message == "could not be run: [Errno 28] No space left on device"
    assert waits == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_the_pause_of_a_trial_that_finds_no_room_ends_where_it_is_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "FULL_SECONDS", 3600.0)
    assert lost_for_want_of_room(tmp_path, monkeypatch, StopTrial(State.KILLED)).fault


GOOD = {
    "state": "succeeded",
    "message": "",
    "metrics": [["accuracy", 0.5, 0, 5], ["stats", [1, "nan"], 1, 6]],
    "started": 1.5,
    "ended": 2.5,
    "fault": False,
    "observations": {"accuracy": 0.5},
}


def test_a_result_outlives_the_scheduler(tmp_path: Path) -> None:
    directory = TrialDirectory(tmp_path)
    metrics = (Metric("accuracy", math.inf, 0, 5), Metric("stats", (1.0, 2.5), 1, 6))
    outcome = Outcome(State.FAILED, "it failed", metrics, 1.5, 2.5, True, observations={"accuracy": -math.inf})
    worker.save_result(directory, outcome)
    assert worker.read_result(directory) == outcome
    directory.result.write_text(json.dumps(GOOD))
    assert worker.read_result(directory) is not None


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "[" * 5000,
        "\udc80",
        *(json.dumps({name: value for name, value in GOOD.items() if name != absent}) for absent in GOOD),
        *(
            json.dumps(GOOD | part)
            for part in (
                {"state": "melted"},
                {"metrics": 5},
                {"metrics": [["accuracy", 0.5]]},
                {"metrics": [["accuracy", "x", 0, 5]]},
                {"metrics": [[7, 0.5, 0, 5]]},
                {"observations": [0.5]},
                {"observations": {"accuracy": [0.5]}},
                {"ended": "soon"},
                {"ended": 1e300},
            )
        ),
    ],
)
def test_a_result_that_the_trial_wrote_over_is_none(tmp_path: Path, content: str) -> None:
    directory = TrialDirectory(tmp_path)
    directory.result.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert worker.read_result(directory) is None
