"""A custom metrics collector in a trial's pod: a container beside the trial's that can read the trial's files.

If the spec states its command, katib-flow's busybox runs the script that ``prepare`` wrote for this trial. Otherwise
Argo looks up the image's own command; it starts with the pod, with the same arguments for every trial.
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


def collector_containers(
    experiment: Experiment, trial: str, directory: TrialDirectory, mounts: list[models.VolumeMount]
) -> list[UserContainer]:
    """Return the collector's container, or an empty list if the experiment has no custom collector.

    Args:
        trial: the placeholder that Argo replaces with the trial's id.
        directory: the trial's directory.
        mounts: mounts of the trial's output, in addition to the directory that all containers share.
    """
    collector = experiment.metrics.container
    if collector is None:
        return []
    own = collector.command is None
    values = _values(experiment, trial, directory)
    args = [text.replace("$", "$$") for text in substitute_all(collector.args, values)]  # Kubernetes turns $$ into $
    protocol = collector_variables(experiment, str(values["trial.name"]), directory, f"{pods.SHARED}/rc")
    variables = {"HOME": pods.TEMPORARY, **substitute_env(collector.env, values), **protocol}
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
