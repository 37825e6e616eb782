"""The report that is kept with an experiment, and what happens where it cannot be made."""

import logging
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.errors import KatibFlowError, NotFound
from katib_flow.local import Result, run_experiment
from katib_flow.reports import page
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

pytest.importorskip("plotly", reason="a report needs Plotly, an extra")


def run(path: Path, function: Any = lambda x: {"loss": x}, **changes: Any) -> Result:
    data = {
        "name": "reported",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
        "algorithm": "random",
        "limits": {"max_trials": 3, "max_failed_trials": 1},
        "trial": {"function": "nowhere:train"},
    }
    store = Store(f"sqlite:///{path}/katib_flow.db")
    return run_experiment(Experiment.parse(data | changes), function=function, store=store)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_experiment_that_ends_keeps_its_report_with_the_curves_of_its_trials(here: Path) -> None:
    def steps(x: float) -> Any:
        for step in range(3):
            yield {"loss": x + 1 / (step + 1)}

    result = run(here, steps)
    kept = result.store.read_artifact(result.run_id, "report.html").read_text(encoding="utf-8")
    assert result.best is not None
    assert f"The best is trial {result.best.id}" in kept
    assert "The course of trials" in kept
    assert result.best.run_id
    written = result.report(here / "mine.html")
    assert written.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_one_that_failed_keeps_a_report_that_says_why(here: Path) -> None:
    def fails(x: float) -> float:
        raise ValueError("no <good>")

    result = run(here, fails)
    kept = result.store.read_artifact(result.run_id, "report.html").read_text(encoding="utf-8")
    assert "2 trials failed; limits.max_failed_trials allows 1" in kept.lower()
    assert "no &lt;good&gt;" in kept


def test_one_whose_algorithm_broke_keeps_a_report_too(here: Path) -> None:
    @kf.algorithm("test-breaks-for-a-report")
    def breaks(ask: kf.Ask[Any]) -> list[kf.Suggestion]:
        if ask.indices[0]:
            raise ZeroDivisionError("no more")
        return [kf.Suggestion(0, {"x": 0.25})]

    with pytest.raises(KatibFlowError, match="no more"):
        run(here, algorithm="test-breaks-for-a-report")
    store = Store(f"sqlite:///{here}/katib_flow.db")
    kept = store.read_artifact(store.find("reported").run_id, "report.html").read_text(encoding="utf-8")
    assert "Algorithm test-breaks-for-a-report: ZeroDivisionError: no more." in kept


def test_a_report_that_fails_fails_no_experiment(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(report: Any) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(page, "html", broken)
    with caplog.at_level(logging.WARNING):
        result = run(here)
    assert str(result.status) == "succeeded"
    assert "reported: its report was not stored: no ink" in caplog.text
    with pytest.raises(NotFound, match=r"report\.html"):
        result.store.read_artifact(result.run_id, "report.html")


def test_without_plotly_no_report_is_kept_and_nothing_is_said(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    result = run(here)
    with pytest.raises(NotFound):
        result.store.read_artifact(result.run_id, "report.html")
    assert caplog.text == ""
