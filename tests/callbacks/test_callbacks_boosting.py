"""The callbacks of XGBoost and LightGBM, by the libraries themselves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import katib_flow as kf
from katib_flow.history import State

LIBRARIES = ["xgboost", "lightgbm"]
RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(200, 4))
LABELS = (DATA[:, 0] + 0.1 * RNG.normal(size=200) > 0).astype(int)


def callback_of(name: str, **settings: Any) -> Any:
    pytest.importorskip(name, reason=f"needs {name}, which is not installed here")
    if name == "xgboost":
        from katib_flow.callbacks.xgboost import KatibFlowCallback
    else:
        from katib_flow.callbacks.lightgbm import KatibFlowCallback
    return KatibFlowCallback(**settings)


def boost(name: str, rounds: int, callback: Any, also: Any = None) -> Any:
    """Train on half of the data, judged on the other half, from the callback's checkpoint where it has one.

    Args:
        also: called after each round, before the callback.
    """
    train, valid = (DATA[:100], LABELS[:100]), (DATA[100:], LABELS[100:])
    start, more = callback.checkpoint, rounds - callback.rounds
    if name == "xgboost":
        import xgboost

        class Also(xgboost.callback.TrainingCallback):
            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                if also:
                    also(epoch + 1)
                return False

        return xgboost.train(
            {"objective": "binary:logistic", "eval_metric": ["auc", "logloss"], "nthread": 1, "max_depth": 2},
            xgboost.DMatrix(*train), more, evals=[(xgboost.DMatrix(*valid), "valid")],
            callbacks=[Also(), callback], xgb_model=start, verbose_eval=False,
        )  # fmt: skip
    import lightgbm

    data = lightgbm.Dataset(*train)
    return lightgbm.train(
        {"objective": "binary", "metric": ["auc", "binary_logloss"], "num_threads": 1, "verbose": -1}, data, more,
        valid_sets=[data.create_valid(*valid)], valid_names=["valid"], init_model=start,
        callbacks=[lambda env: also(env.iteration + 1) if also else None, callback],
    )  # fmt: skip


def rounds_of(name: str, model: Any) -> int:
    return model.num_boosted_rounds() if name == "xgboost" else model.current_iteration()


@pytest.mark.parametrize("name", LIBRARIES)
def test_each_round_is_reported_under_the_names_of_the_library(name: str, around: Any) -> None:
    boost(name, 5, callback_of(name))
    loss = "valid-logloss" if name == "xgboost" else "valid-binary_logloss"
    assert [set(report["metrics"]) for report in around.reports] == [{"valid-auc", loss}] * 5
    assert around.steps(loss) == [1, 2, 3, 4, 5]
    losses = [report["metrics"][loss] for report in around.reports]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_trial_that_should_stop_ends_after_the_round(name: str, around: Any) -> None:
    model = boost(name, 50, callback_of(name), lambda rounds: around.ask_to_stop() if rounds == 3 else None)
    assert rounds_of(name, model) == 3
    assert around.steps("valid-auc") == [1, 2, 3]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_promoted_trial_boosts_on_from_its_parent(name: str, around: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    boost(name, 4, callback_of(name, checkpoints=2))
    child = around.of_child(monkeypatch)
    model = boost(name, 6, callback_of(name, checkpoints=2))
    assert rounds_of(name, model) == 6
    assert child.steps("valid-auc") == [5, 6]


@pytest.mark.parametrize("name", LIBRARIES)
def test_cross_validation_reports_the_mean_of_the_folds(name: str, around: Any) -> None:
    callback = callback_of(name, checkpoints=1)
    if name == "xgboost":
        import xgboost

        parameters = {"objective": "binary:logistic", "eval_metric": "auc", "nthread": 1}
        table = xgboost.cv(parameters, xgboost.DMatrix(DATA, LABELS), 3, nfold=2, callbacks=[callback], seed=0)
        expected = list(table["test-auc-mean"])
        reported = [report["metrics"]["test-auc"] for report in around.reports]
    else:
        import lightgbm

        parameters = {"objective": "binary", "metric": "auc", "num_threads": 1, "verbose": -1}
        table = lightgbm.cv(parameters, lightgbm.Dataset(DATA, LABELS), 3, nfold=2, callbacks=[callback], seed=0)
        expected = table["valid auc-mean"]
        reported = [report["metrics"]["valid-auc"] for report in around.reports]
    assert reported == pytest.approx(expected)
    assert around.steps("test-auc" if name == "xgboost" else "valid-auc") == [1, 2, 3]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_rule_of_early_stopping_ends_a_trial_that_boosts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback_of(name)
    monkeypatch.chdir(tmp_path)
    here = os.path.dirname(__file__)
    module = Path(tmp_path, "boosts.py")
    module.write_text(
        f"import sys\nsys.path.insert(0, {here!r})\n"
        "from test_callbacks_boosting import boost, callback_of\n\n"
        "def train(x):\n"
        f"    boost({name!r}, 100000, callback_of({name!r}))\n"
    )
    spec = kf.Experiment.parse(
        {
            "name": "boosts",
            "objective": {"metric": "valid-auc", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 1},
            "early_stopping": {"name": "plateau", "settings": {"window": 20, "tolerance": 0.01, "start_step": 20}},
            "trial": {"function": "boosts:train"},
        }
    )
    (trial,) = kf.run(spec).trials
    assert trial.state is State.EARLY_STOPPED
    assert trial.observations["valid-auc"] > 0.8
