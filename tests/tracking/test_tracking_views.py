"""The link to an experiment's trials in MLflow's UI: what the view behind it says, and where it is kept."""

import json

import pytest
from tracking_kit import client_of, experiment

from katib_flow.tracking import Record, Store
from katib_flow.tracking.names import MAX_TAG
from katib_flow.tracking.views import experiments_path, trials_path, view_tags


def test_an_experiment_keeps_a_view_of_its_trials_which_its_description_opens(store: Store, record: Record) -> None:
    tags = client_of(store).get_experiment(record.mlflow_experiment_id).tags
    path = trials_path(record)
    key = path.split("viewStateShareKey=")[1]
    view = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    assert view["searchFilter"] == f"tags.`mlflow.parentRunId` = '{record.run_id}'"
    assert view["selectedColumns"][0] == f"metrics.`{record.experiment.objective[0].metric}`"
    assert {f"params.`{name}`" for name in record.experiment.parameters} <= set(view["selectedColumns"])
    assert path.startswith(f"#/experiments/{record.mlflow_experiment_id}/runs?workflowType=machine_learning&")
    store.summarise(record, store.history(record))
    assert f"({path})" in client_of(store).get_run(record.run_id).data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("direction", "rising"), [("maximize", False), ("minimize", True)])
def test_the_best_trial_is_on_top(direction: str, rising: bool) -> None:
    of = experiment(objective={"metric": "acc@5", "direction": direction})
    (text,) = view_tags("0123", of).values()
    view = json.loads(text)
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`acc:40:5`", rising)


def test_of_very_many_parameters_as_many_are_columns_as_a_tag_holds() -> None:
    of = experiment(
        parameters={f"a_long_name_{number}": {"type": "float", "min": 0, "max": 1} for number in range(400)}
    )
    (text,) = view_tags("0123", of).values()
    assert MAX_TAG - 100 < len(text) <= MAX_TAG
    assert "params.`a_long_name_0`" in json.loads(text)["selectedColumns"]


def test_the_list_of_experiments_leaves_out_their_trials() -> None:
    assert experiments_path("7") == (
        "#/experiments/7/runs?workflowType=machine_learning"
        "&searchFilter=tags.%60katib_flow.kind%60%20%3D%20%27experiment%27"
    )
