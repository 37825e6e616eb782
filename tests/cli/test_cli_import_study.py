"""`katib-flow import` of what Optuna and Ray Tune have searched."""

import json
from pathlib import Path
from typing import Any

import pytest

from katib_flow.loop import load
from katib_flow.tracking import Store


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def results(here: Path) -> Path:
    for number, lr in enumerate((0.1, 0.2, 0.4)):
        path = here / "tuned" / f"train_{number}"
        path.mkdir(parents=True)
        (path / "params.json").write_text(json.dumps({"lr": lr}))
        (path / "result.json").write_text(json.dumps({"loss": lr, "training_iteration": 1}) + "\n")
    return here / "tuned"


def test_a_folder_of_ray_tune_becomes_a_spec_and_a_finished_experiment(call: Any, results: Path) -> None:
    done = call("import", "tuned", "--direction", "minimize", "-o", "next.yaml")
    assert done.code == 0, done.error
    assert done.error.startswith("recorded tuned (")
    assert done.error.endswith("), read from Ray Tune: 3 of 3 trials\n")
    text = Path("next.yaml").read_text()
    assert "# The search 'tuned' of Ray Tune as a katib-flow spec that learns from its trials." in text
    assert "# read from Ray Tune: 3 of 3 trials\nwarm_start: tuned\n" in text
    spec = load("next.yaml")
    assert len(Store("sqlite:///katib_flow.db").earlier(spec).completed("loss")) == 3
    again = call("import", "tuned", "--direction", "minimize", "-o", "next.yaml")
    assert (again.code, again.error) == (2, "error: next.yaml: already exists; name another file with -o\n")


def test_a_study_of_optuna_becomes_a_spec_and_a_finished_experiment(call: Any, here: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs Optuna, which is not installed here")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage="sqlite:///study.db", study_name="A study")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    for source in ("sqlite:///study.db", "study.db"):
        done = call("import", source)
        assert done.code == 0, done.error
        assert "warm_start: a-study\n" in done.out
    assert len(Store("sqlite:///katib_flow.db").records()) == 2


def test_an_option_of_another_source_is_refused(call: Any, results: Path) -> None:
    done = call("import", "tuned", "--study", "x")
    assert done.code == 2
    assert "--study: does not apply to tuned, which was read as a Ray Tune folder" in done.error
