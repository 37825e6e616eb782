"""When a collector of the user's own is through: what its container shows of it, on a clock that the test moves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import experiment

from katib_flow.argo.steps import collector
from katib_flow.argo.steps.collector import COLLECT_SECONDS, SILENCE_SECONDS, Collector
from katib_flow.history import Metric, State
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.outcome import Ending, StopTrial
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.reader import Reader

WELL = Ending(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(collector.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def collecting(tmp_path: Path) -> Callable[..., Collector]:
    def built(**container: Any) -> Collector:
        of = experiment(
            trial={"container": {"image": "x", "command": ["y"]}},
            metrics={"source": "custom", "container": {"image": "z", **container}},
        )
        with BoundedLog(tmp_path / "log") as log:
            reader = Reader(of, TrialDirectory(tmp_path), log, lambda metrics: None)
        theirs = Collector.of(of, tmp_path, reader)
        assert theirs is not None
        return theirs

    return built


def test_a_trial_without_one_waits_for_none(tmp_path: Path) -> None:
    assert Collector.of(experiment(), tmp_path, None) is None  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "ending", [Ending(1), Ending(-9), Ending(0, StopTrial(State.EARLY_STOPPED)), Ending(0, None, timed_out=True)]
)
def test_of_a_trial_that_did_not_end_well_nothing_is_awaited(collecting: Any, ending: Ending) -> None:
    assert not collecting(command=["c"]).busy(ending)


def test_a_command_is_awaited_until_it_ends(collecting: Any, clock: list[float], tmp_path: Path) -> None:
    theirs = collecting(command=["c"])
    assert theirs.busy(WELL)
    (tmp_path / "collected").write_text("0\n")
    assert not theirs.busy(WELL)
    assert theirs.reader.failure == ""


def test_a_command_that_fails_is_told_with_its_last_line(collecting: Any, tmp_path: Path) -> None:
    theirs = collecting(command=["c"])
    (tmp_path / "collector.out").write_text("one\ntwo")
    (tmp_path / "collected").write_text("137\n")
    assert not theirs.busy(WELL)
    assert theirs.reader.failure == ('metrics.container was killed by SIGKILL; its last line was "two"')


def test_a_command_without_an_end_is_not_awaited_for_ever(collecting: Any, clock: list[float]) -> None:
    theirs = collecting(command=["c"])
    assert theirs.busy(WELL)
    clock[0] += COLLECT_SECONDS
    assert theirs.busy(WELL)
    clock[0] += 1
    assert not theirs.busy(WELL)
    assert theirs.reader.failure.startswith("metrics.container had not ended 300 s after the trial; it printed nothing")


def test_an_images_own_command_is_through_when_it_has_reported_and_is_silent(
    collecting: Any, clock: list[float]
) -> None:
    theirs = collecting(starts="with-trial")
    assert theirs.busy(WELL)
    clock[0] += SILENCE_SECONDS + 1
    assert theirs.busy(WELL)  # silent, and the objective has no value
    theirs.reader.take([Metric("accuracy", 0.5, 0, 0)])
    assert theirs.busy(WELL)
    clock[0] += SILENCE_SECONDS - 1
    theirs.reader.take([Metric("accuracy", 0.75, 1, 0)])
    assert theirs.busy(WELL)
    clock[0] += SILENCE_SECONDS - 1
    assert theirs.busy(WELL)
    clock[0] += 2
    assert not theirs.busy(WELL)
    assert theirs.reader.failure == ""


def test_an_images_own_command_that_reports_nothing_is_no_failure(collecting: Any, clock: list[float]) -> None:
    theirs = collecting(starts="with-trial")
    assert theirs.busy(WELL)
    clock[0] += COLLECT_SECONDS + 1
    assert not theirs.busy(WELL)
    assert theirs.reader.failure == ""
