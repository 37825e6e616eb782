"""A server that is away for longer than any call is tried again: the results wait on the disk, and a person is told."""

import re
from pathlib import Path

import pytest
from tracking_kit import Fault, Proxy

from katib_flow.errors import TrackingUnavailable
from katib_flow.history import History, State, Trial
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store

MODULE = """\
from pathlib import Path

def train(x):
    Path("away").touch()
    return x
"""


def experiment() -> Experiment:
    return Experiment.parse(
        {
            "name": "away",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 4, "parallel_trials": 2},
            "trial": {"function": "away_user:train"},
        }
    )


class Screen:
    """Has the server come back when it is told that both results wait."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.waiting: list[Path] = []

    def show(self, history: History, most_trials: int | None) -> None: ...

    def trial_ended(self, trial: Trial) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)
        if "2 results wait" in text and not self.waiting:
            self.waiting = sorted(Path().glob(".katib_flow/*/*/result.json"))
            Path("back").touch()


@pytest.fixture
def leaving(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """Is away from when a trial has begun until ``back`` is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away_user.py").write_text(MODULE)
    for constant in ("scheduler.STORE_SECONDS", "scheduler.AWAY_AGAIN_SECONDS", "scheduler.AWAY_SECONDS"):
        monkeypatch.setattr(f"katib_flow.local.{constant}", 0.01)
    monkeypatch.setattr("katib_flow.tracking.recorder.AGAIN_SECONDS", 0.01)

    def fault(method: str, path: str) -> Fault | None:
        return Fault("", "drop") if Path("away").exists() and not Path("back").exists() else None

    monkeypatch.setattr(proxy, "fault", fault)
    return proxy


def test_results_wait_on_the_disk_until_the_server_is_back(leaving: Proxy) -> None:
    screen = Screen()
    store = Store(leaving.uri, patience_seconds=0.05)
    result = run_experiment(experiment(), store=store, progress=screen, barrier=True)
    assert [path.parent.name for path in screen.waiting] == ["t00000", "t00001"]
    away, back = (
        [text for text in screen.said if text.startswith(f"MLflow {how}")] for how in ("has not answered", "answers")
    )
    assert re.fullmatch(
        r"MLflow has not answered since \d\d:\d\d:\d\d; \d results? waits? on disk, and no trials start until it "
        "does",
        away[-1],
    )
    assert len(back) == 1
    assert screen.said.index(back[0]) > screen.said.index(away[-1])
    history = store.history(store.get(result.run_id))
    assert [trial.state for trial in history] == [State.SUCCEEDED] * 4
    assert [trial.observations["loss"] for trial in history] == [trial.assignment["x"] for trial in history]
    assert store.get(result.run_id).status is Status.SUCCEEDED
    assert not list(Path().glob(".katib_flow/*/*/suggestion.json"))


def test_who_interrupts_does_not_wait_for_a_server_that_is_away(
    leaving: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    screen = Screen()
    monkeypatch.setattr(screen, "say", lambda text: "2 results" in text and os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrackingUnavailable):
        run_experiment(experiment(), store=Store(leaving.uri, patience_seconds=0.05), progress=screen, barrier=True)
    Path("back").touch()
    assert [path.parent.name for path in sorted(Path().glob(".katib_flow/*/*/result.json"))] == ["t00000", "t00001"]
