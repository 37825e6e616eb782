"""Constants of a trial in a run: what its program gets of them, and what the store and the report tell."""

import sys
from pathlib import Path
from typing import Any

import pytest

from katib_flow.local import run_experiment
from katib_flow.spec import Experiment

CONSTANTS = {"epochs": 3, "data": "${lr} $(x)"}
PROGRAM = (
    "import json, os, sys; file = json.load(open(os.environ['KATIB_FLOW_TRIAL_FILE']));"
    "same = [sys.argv[1], os.environ['DATA']] == ['3', file['arguments']['data']];"
    "print('loss=%d' % (0 if same and os.environ['BOTH'] == '3/0.5' and 'GONE' not in os.environ else 1))"
)


def spec(trial: dict[str, Any], tmp_path: Path) -> Experiment:
    parameters = {
        "lr": {"type": "categorical", "values": [0.5, 0.7]},
        "momentum": {"type": "float", "min": 0, "max": 1, "when": {"lr": [0.7]}},
    }
    return Experiment.parse(
        {
            "name": "x",
            "objective": {"metric": "loss", "direction": "minimize"},
            "parameters": parameters,
            "initial": [{"lr": 0.5}],
            "limits": {"max_trials": 1},
            "algorithm": "random",
            "trial": {**trial, "arguments": CONSTANTS},
            "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
        }
    )


@pytest.mark.parametrize("kind", ["command", "function"])
def test_a_program_gets_its_constants_and_the_store_and_the_report_tell_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"DATA": "${data}", "BOTH": "${epochs}/${lr}", "GONE": "${momentum}"}
    trials: dict[str, dict[str, Any]] = {
        "command": {"command": [sys.executable, "-c", PROGRAM, "${epochs}"], "env": env},
        "function": {"function": "user_constants:told"},
    }
    (tmp_path / "user_constants.py").write_text(
        f"import katib_flow as kf\nCONSTANTS = {CONSTANTS!r}\n"
        "def told(lr, epochs, data, momentum=None):\n"
        "    same = kf.arguments() == CONSTANTS == {'epochs': epochs, 'data': data}\n"
        "    return 0.0 if same and kf.parameters() == {'lr': lr} else 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    result = run_experiment(spec(trials[kind], tmp_path))
    (trial,) = result.trials
    assert trial.observations == {"loss": 0.0}
    assert dict(trial.assignment) == {"lr": 0.5}
    page = tmp_path / "report.html"
    result.report(page)
    assert "epochs 3" in page.read_text(encoding="utf-8")

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("katib-flow")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [value for name, value in parent.data.params.items() if "epochs" in name] == ["3"]
