"""The MLflow of a trial: its own store, experiment and run, whatever the environment around the experiment says.

What a program in the trial logs goes to the trial's store: MLflow's own ``start_run``, its autologging and the loggers
of other libraries open runs that are children of the trial's. ``MLFLOW_RUN_ID`` would have them take over the trial's
run instead: MLflow then renames and ends it, refuses params that it has already, and raises an error after
``set_experiment``. So it is set only where the spec says that metrics are pushed to that run.
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
        uri: of the store, absolute.
        experiment_id: of the MLflow experiment.
        run_id: of the trial's run.
    """

    uri: str
    experiment_id: str
    run_id: str

    def variables(self, *, pushes: bool = False) -> dict[str, str]:
        """What MLflow's clients read from their environment.

        Args:
            pushes: the trial logs its metrics to its own run.
        """
        context = json.dumps({"mlflow.parentRunId": self.run_id})  # tags of every run that is opened
        where = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_ID": self.experiment_id}
        return {**where, "MLFLOW_RUN_CONTEXT": context, **({"MLFLOW_RUN_ID": self.run_id} if pushes else {})}


def isolated(
    around: Mapping[str, str], tracked: Tracked | None, given: Mapping[str, str], *, pushes: bool = False
) -> dict[str, str]:
    """The environment of a trial: that around it, with MLflow's variables its own, and then what the spec gives.

    Args:
        tracked: where the trial is recorded; None where that is not known, and the environment stays as it is.
        given: ``trial.env``; where it names a store or a run itself, that is the user's choice, and none is added.
    """
    if tracked is None:
        return {**around, **given}
    own = {} if any(name in given for name in _CHOSEN) else tracked.variables(pushes=pushes)
    return {**without_run(around), **own, **given}


def without_run(around: Mapping[str, str]) -> dict[str, str]:
    """An environment without what it says of a store, an experiment or a run of MLflow's."""
    return {name: text for name, text in around.items() if name not in _OF_ANOTHER}
