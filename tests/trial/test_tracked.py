"""The MLflow of a trial, in an environment that speaks of another."""

import json

import pytest

from katib_flow.trial.tracked import Tracked, isolated

TRACKED = Tracked("sqlite:////here/katib_flow.db", "1", "a" * 32)
AROUND = {
    "PATH": "/bin",
    "MLFLOW_TRACKING_URI": "http://elsewhere",
    "MLFLOW_EXPERIMENT_NAME": "outer",
    "MLFLOW_RUN_ID": "b" * 32,
    "MLFLOW_RUN_CONTEXT": "{}",
    "MLFLOW_TRACKING_TOKEN": "secret",
}


def test_a_trial_has_its_own_store_and_experiment_and_is_the_parent_of_what_it_opens():
    made = isolated(AROUND, TRACKED, {"A": "b"})
    assert json.loads(made.pop("MLFLOW_RUN_CONTEXT")) == {"mlflow.parentRunId": TRACKED.run_id}
    assert made == {
        "PATH": "/bin",
        "A": "b",
        "MLFLOW_TRACKING_TOKEN": "secret",
        "MLFLOW_TRACKING_URI": TRACKED.uri,
        "MLFLOW_EXPERIMENT_ID": "1",
    }


def test_a_trial_that_pushes_its_metrics_is_in_its_own_run():
    assert isolated(AROUND, TRACKED, {}, pushes=True)["MLFLOW_RUN_ID"] == TRACKED.run_id


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"])
def test_what_the_spec_gives_is_the_users_choice_and_nothing_is_mixed_into_it(name):
    assert isolated(AROUND, TRACKED, {name: "mine"}) == {
        "PATH": "/bin",
        "MLFLOW_TRACKING_TOKEN": "secret",
        name: "mine",
    }


def test_where_it_is_not_known_where_a_trial_is_recorded_nothing_changes():
    assert isolated(AROUND, None, {"A": "b"}) == AROUND | {"A": "b"}
