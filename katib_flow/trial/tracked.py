"""MLflow's environment in a trial: its own store, experiment and run, whatever the outer environment says.

What a program in the trial logs goes to the trial's store: MLflow's own ``start_run``, its autologging and the loggers
of other libraries create child runs of the trial's run. With ``MLFLOW_RUN_ID`` they would use the trial's run itself:
MLflow then renames and ends it, refuses params that it already has, and raises an error after ``set_experiment``. So it
is set only if the spec says that metrics are pushed to that run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

_CHOSEN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")
_OF_ANOTHER = (*_CHOSEN, "MLFLOW_RUN_CONTEXT")


@dataclass(frozen=True)
class Tracked:
    """Where a trial is recorded.

    Attributes:
        uri: the absolute address of the store.
        experiment_id: the id of the MLflow experiment.
        run_id: the id of the trial's run.
    """

    uri: str
    experiment_id: str
    run_id: str

    def variables(self, *, pushes: bool = False) -> dict[str, str]:
        """The environment variables for MLflow's clients.

        Args:
            pushes: True if the trial logs its metrics to its own run.
        """
        context = json.dumps({"mlflow.parentRunId": self.run_id})  # the tags of every new run
        where = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_ID": self.experiment_id}
        return {**where, "MLFLOW_RUN_CONTEXT": context, **({"MLFLOW_RUN_ID": self.run_id} if pushes else {})}


def isolated(
    around: Mapping[str, str], tracked: Tracked | None, given: Mapping[str, str], *, pushes: bool = False
) -> dict[str, str]:
    """The environment of a trial: the outer one, with MLflow's variables replaced, and then the variables of the spec.

    Args:
        around: the outer environment.
        tracked: where the trial is recorded; None leaves MLflow's variables as they are.
        given: ``trial.env``. If it sets a store or a run for MLflow, no variables of ours are added.
    """
    if tracked is None:
        return {**around, **given}
    own = {} if any(name in given for name in _CHOSEN) else tracked.variables(pushes=pushes)
    return {**without_run(around), **own, **given}


def without_run(around: Mapping[str, str]) -> dict[str, str]:
    """An environment without MLflow's variables for a store, an experiment or a run."""
    return {name: text for name, text in around.items() if name not in _OF_ANOTHER}
