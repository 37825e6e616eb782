"""The user's own collector in a trial's pod: a container beside the trial's, which sees what the trial has written.

Where its command is known, our busybox runs it, with what ``prepare`` has written for this trial. Else it is that of
the image, which Argo looks up; it starts with the pod, and its arguments are those of every trial.
"""

from collections.abc import Mapping

from hera.workflows import UserContainer, models

from katib_flow.argo import pods
from katib_flow.argo.placement import resources
from katib_flow.history import Value
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.template import substitute_all, substitute_env
from katib_flow.trial.collecting import COLLECTOR_KNOWS, collector_variables
from katib_flow.trial.protocol import TrialDirectory

NAME = "metrics"


def beside(
    experiment: Experiment, trial: str, directory: TrialDirectory, mounts: list[models.VolumeMount]
) -> list[UserContainer]:
    """The collector's container; none where the trial has none.

    Args:
        trial: its id, as Argo will fill it in.
        mounts: of what the trial writes, beside the directory that all containers share.
    """
    collector = experiment.metrics.container
    if collector is None:
        return []
    own = collector.command is None
    values = _values(experiment, trial, directory)
    args = [text.replace("$", "$$") for text in substitute_all(collector.args, values)]  # Kubernetes halves it again
    given = collector_variables(experiment, str(values["trial.name"]), directory, f"{pods.SHARED}/rc")
    variables = {"HOME": pods.TEMPORARY, **substitute_env(collector.env, values), **given}
    return [
        UserContainer(
            name=NAME,
            image=collector.image,
            command=None if own else [f"{pods.SHARED}/busybox", "sh", f"{pods.SHARED}/collect.sh"],
            args=args if own else None,
            env=[*pods.variables(variables)] if own else None,
            working_dir=collector.working_dir,
            image_pull_policy=experiment.argo.image_pull_policy,
            resources=resources(collector.resources),
            security_context=pods.container_security(),
            volume_mounts=[*pods.mounts(), *mounts],
        )
    ]


def _values(experiment: Experiment, trial: str, directory: TrialDirectory) -> Mapping[str, Value]:
    of_trial = (trial, f"{experiment.name}-{trial}", str(directory.path), str(directory.trial_file))
    return dict(zip(COLLECTOR_KNOWS, (*of_trial, experiment.name), strict=True))
