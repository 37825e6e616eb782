"""Links to a view of MLflow's UI that compares the trials of an experiment in a table.

The button "Share" in MLflow's UI stores a view (its runs, their order, the columns) as a tag of the MLflow experiment,
``mlflow.sharedViewState.<key>``, and ``viewStateShareKey=<key>`` in an address opens it. There is no other way to
choose the columns. The parameter ``workflowType`` selects the pages for training, which MLflow 3.17 shows only to a
browser that has requested them before, whatever the kind of the MLflow experiment.
"""

import json
from urllib.parse import quote

from katib_flow.spec import Experiment
from katib_flow.tracking.names import MAX_TAG, escape
from katib_flow.tracking.records import Record

TRAINING = "workflowType=machine_learning"


def view_tags(run_id: str, experiment: Experiment) -> dict[str, str]:
    """The tag of the MLflow experiment that holds the view of an experiment's trials.

    Args:
        run_id: the id of the parent run.
    """
    first = experiment.objective[0]
    columns = [f"metrics.`{escape(name)}`" for name in experiment.metric_names]
    columns += ["tags.`katib_flow.budget`"] if experiment.budget else []
    columns += [f"params.`{escape(name)}`" for name in experiment.parameters]
    while len(text := json.dumps(_state(run_id, escape(first.metric), first.direction, columns))) > MAX_TAG:
        columns.pop()  # users can add it from a menu of the table
    return {f"mlflow.sharedViewState.{_key(run_id)}": text}


def _state(run_id: str, metric: str, direction: str, columns: list[str]) -> dict[str, object]:
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run_id}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": direction == "minimize",
        "selectedColumns": columns,
    }


def _key(run_id: str) -> str:
    return f"katib-flow-{run_id}"


def trials_path(record: Record) -> str:
    """The path in MLflow's UI to the trials of an experiment, with objectives and parameters as columns, best first."""
    return f"#/experiments/{record.mlflow_experiment_id}/runs?{TRAINING}&viewStateShareKey={_key(record.run_id)}"


def experiments_path(mlflow_experiment_id: str) -> str:
    """The path in MLflow's UI to the experiments without their trials."""

    where = quote("tags.`katib_flow.kind` = 'experiment'")
    return f"#/experiments/{mlflow_experiment_id}/runs?{TRAINING}&searchFilter={where}"
