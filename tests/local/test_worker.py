"""One trial in a worker, whatever the disk does."""

from multiprocessing import Pipe
from pathlib import Path

import pytest

from katib_flow.history import State, Suggestion
from katib_flow.local import worker
from katib_flow.local.worker import Done, Run
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
