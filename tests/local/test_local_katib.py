"""Trials on this machine that report as to Katib: a real client in a process of its own, over a real connection."""

# ruff: noqa: E501 - a case of a table stands on one line or two

import sys
from pathlib import Path
from typing import Any

import pytest
from kit import spec

pytest.importorskip("grpc")

from katib_flow.errors import InvalidSpec
from katib_flow.history import State, Trial
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

SDK = str(Path(__file__).parents[1] / "katib_api" / "programs" / "reports_as_sdk.py")
REPORT = [sys.executable, SDK]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **changes: Any) -> list[Trial]:
        sections: dict[str, Any] = {
            "trial": {"command": [*REPORT, *arguments]},
            "metrics": {"source": "katib"},
            "limits": {"max_trials": 1, "max_failed_trials": 9},
            "additional_metrics": ["loss"],
        }
        store = Store(f"sqlite:///{tmp_path}/mlflow.db")
        result = run_experiment(Experiment.parse(spec(**(sections | changes))), store=store)
        return list(store.history(store.get(result.run_id), series=True))

    return run


def test_what_is_reported_becomes_metrics_by_their_strategy(run: Any) -> None:
    metrics = {"source": "katib", "strategy": {"accuracy": "max"}}
    (trial,) = run("accuracy=0.5,loss=2", "accuracy=0.75,other=3", "accuracy=0.25", metrics=metrics)
    assert trial.state is State.SUCCEEDED, trial.message
    assert [(item.value, item.step) for item in trial.series["accuracy"]] == [(0.5, 0), (0.75, 1), (0.25, 2)]
    assert trial.observations == {"accuracy": 0.75, "loss": 2.0}
    assert trial.started is not None
    assert all(abs(item.timestamp_ms / 1000 - trial.started) < 120 for item in trial.series["accuracy"])


def test_trials_side_by_side_have_an_endpoint_each(run: Any) -> None:
    limits = {"max_trials": 4, "parallel_trials": 2}
    trials = run("accuracy=${lr}", limits=limits)
    assert [trial.observations["accuracy"] for trial in trials] == pytest.approx([t.assignment["lr"] for t in trials])


def test_a_report_for_another_trial_is_refused(run: Any) -> None:
    (trial,) = run("--as", "digits-mlp-t00007", "accuracy=0.5")
    assert trial.state is State.FAILED
    assert trial.observations == {}


def test_of_what_was_refused_the_trial_says_why(run: Any) -> None:
    script = "import subprocess, sys; subprocess.run(sys.argv[1:], capture_output=True)"
    (trial,) = run(trial={"command": [sys.executable, "-c", script, *REPORT, "accuracy=high"]})
    assert trial.state is State.METRICS_UNAVAILABLE
    assert "metric_logs[0].metric.value: found 'high', need a number as text" in trial.message
    assert "nothing was reported to Katib's API at 127.0.0.1:" in trial.message


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("Accuracy=1", "'Accuracy'; names are case-sensitive"),
        ("accuracy=unavailable", "the value reported for it is 'unavailable', Katib's word for no value"),
    ],
)
def test_what_stands_in_the_place_of_the_objective_is_told(run: Any, argument: str, said: str) -> None:
    (trial,) = run(argument)
    assert trial.state is State.METRICS_UNAVAILABLE
    assert said in trial.message


def test_nan_and_infinity_are_recorded_and_never_best(run: Any) -> None:
    (trial,) = run(
        "accuracy=inf", "accuracy=0.5", "accuracy=nan", metrics={"source": "katib", "strategy": {"accuracy": "max"}}
    )
    assert len(trial.series["accuracy"]) == 3
    assert trial.observations["accuracy"] == 0.5


def test_a_function_reports_too(run: Any, tmp_path: Path) -> None:
    module = f"""
import subprocess, sys
def train(lr):
    subprocess.run([sys.executable, {SDK!r}, f"accuracy={{lr}}"], check=True)
"""
    (tmp_path / "reporting_module.py").write_text(module)
    trials = run(trial={"function": "reporting_module:train"}, limits={"max_trials": 3})
    assert [trial.observations["accuracy"] for trial in trials] == pytest.approx([t.assignment["lr"] for t in trials])


def test_one_port_serves_one_trial_at_a_time() -> None:
    of = Experiment.parse(
        spec(trial={"command": ["true"]}, metrics={"source": "katib", "port": 6789}, limits={"max_trials": 2, "parallel_trials": 2})
    )  # fmt: skip
    with pytest.raises(InvalidSpec) as caught:
        run_experiment(of)
    assert str(caught.value).endswith(
        "limits.parallel_trials: found 2, need 1, because the trials on this machine would all report to port 6789"
    )


def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katib_flow.local.run.find_spec", lambda name: None)
    of = Experiment.parse(spec(trial={"command": ["true"]}, metrics={"source": "katib"}))
    with pytest.raises(
        InvalidSpec, match=r"metrics.source: found 'katib', need gRPC, .*pip install 'katib-flow\[katib\]'"
    ):
        run_experiment(of)


@pytest.mark.parametrize("source", ["katib", "stdout"])
def test_that_the_sdk_itself_needs_a_pod_is_told(
    run: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    said = "note: metrics.source: report_metrics of Katib's SDK fails on this machine"
    monkeypatch.setattr("katib_flow.effects.NAMESPACE_FILE", tmp_path / "namespace")
    run("accuracy=1", metrics={"source": source})
    assert (said in capfd.readouterr().err) is (source == "katib")
    (tmp_path / "namespace").write_text("ml")
    run("accuracy=1", metrics={"source": source})
    assert said not in capfd.readouterr().err
