"""What a trial logs to MLflow itself: in the experiment's store, below the trial's run, whatever is set outside."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

import katib_flow as kf
from katib_flow.history import State
from katib_flow.local import run_experiment
from katib_flow.spec import Experiment
from katib_flow.tracking import Store

MODULE = """\
def train(x):
    import os
    import mlflow
    from mlflow.tracking.context.registry import resolve_tags

    if x > 0.5:
        mlflow.set_experiment("mine")
    with mlflow.start_run(run_name="user"):
        mlflow.log_metric("inner", x)
        mlflow.log_param("x", "another value than the trial's")
        with mlflow.start_run(run_name="nested", nested=True):
            mlflow.log_metric("deep", x)
    with mlflow.start_run(run_name="second"):
        pass
    client = mlflow.MlflowClient()  # as loggers do that open a run of their own
    experiment = client.get_experiment_by_name("logger")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("logger")
    client.create_run(experiment_id, run_name="logger", tags=resolve_tags({}))
    return x
"""


def test_what_a_trial_logs_is_below_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "outer")
    (tmp_path / "logging_user.py").write_text(MODULE)
    store = Store(f"sqlite:///{tmp_path}/katib_flow.db")
    made = Experiment.parse(
        {
            "name": "logs",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"type": "categorical", "values": [0.25, 0.75]}},
            "algorithm": "grid",
            "trial": {"function": "logging_user:train"},
        }
    )
    result = run_experiment(made, store=store)
    assert [trial.state for trial in result.trials] == [State.SUCCEEDED] * 2
    assert not list(tmp_path.glob("mlflow*")) + list(tmp_path.glob("mlruns"))
    client = MlflowClient(store.uri)
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    assert "outer" not in experiments
    runs = {run.info.run_id: run for run in client.search_runs(list(experiments.values()))}
    parents = [
        (run.info.run_name, runs[run.data.tags["mlflow.parentRunId"]].info.run_name)
        for run in runs.values()
        if run.info.run_name != "logs"
    ]
    trials = [trial.id for trial in result.trials]
    assert sorted(parents) == sorted(
        [(trial, "logs") for trial in trials]
        + [(name, trial) for name in ("user", "second", "logger") for trial in trials]
        + [("nested", "user")] * 2
    )
    history = store.history(store.get(result.run_id), series=True)
    assert [dict(trial.observations) for trial in history] == [{"loss": 0.25}, {"loss": 0.75}]
    assert {name for trial in history for name in trial.series} == {"loss"}


def test_a_command_may_be_given_its_run_and_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = 'echo "$1 $2" > told; echo loss=1'
    made = Experiment.parse(
        {
            "name": "told",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 1},
            "trial": {"command": ["sh", "-c", program, "sh", "${trial.run_id}", "${tracking.uri}"]},
        }
    )
    result = kf.run(made)
    assert (tmp_path / "told").read_text().split() == [result.trials[0].run_id, result.store.uri]
