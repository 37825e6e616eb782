"""The pod of one trial, by kind of trial: a new kind is one more function in ``TRIAL_PODS``.

An image with katib-flow runs the whole trial in one container. Any other image is run by a static busybox that
``prepare`` puts beside it, while ``collector`` reads what it prints; only these two know where MLflow is.
"""

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from hera.workflows import Container, Parameter

from katib_flow.argo import collector_pod, pods
from katib_flow.argo.names import TRIAL_LABEL as LABEL
from katib_flow.argo.placement import resources, trial_place
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.protocol import USER_FAILURE, TrialDirectory

DIRECTORY = f"{pods.SHARED}/trial"
ID = "{{inputs.parameters.id}}"
NET_SECONDS = 900
"""Added to ``trial_timeout`` for the pod's own deadline. The step keeps the time-out itself, exactly; the deadline is
the net for a pod that hangs, and its clock also runs while an image is pulled."""
RETRY_IF = f'lastRetry.exitCode != "{USER_FAILURE}" && !(lastRetry.message matches "OOMKilled|specified deadline")'
"""A user's failure, and too little memory, are results of the trial; everything else is the machine's fault."""


def in_process(experiment: Experiment) -> Container:
    """A function or a command, in an image that has katib-flow."""
    place, amounts = trial_place(experiment), resources(experiment.argo.trial.resources)
    args = ["run", *_which()]
    common = _common(experiment)
    return pods.step(experiment, "trial", "train", args, inputs=["id"], place=place, resources=amounts, **common)


def any_image(experiment: Experiment) -> Container:
    """A container of the user's own, which needs no Python and none of our code."""
    container, place = experiment.trial.container, trial_place(experiment)
    assert container is not None
    extra = shared_directory(experiment)
    shared = [*pods.mounts_of(extra), *place.checkpoints]
    directory = TrialDirectory(Path(DIRECTORY))
    return Container(
        name="trial",
        inputs=[Parameter(name="id")],
        image=container.image,
        image_pull_policy=experiment.argo.image_pull_policy,
        command=[f"{pods.SHARED}/busybox", "sh", f"{pods.SHARED}/wrap.sh"],
        working_dir=container.working_dir,
        resources=resources(container.resources),
        security_context=pods.container_security(),
        volumes=[*pods.volumes(extra), *place.volumes],
        volume_mounts=[*pods.mounts(extra), *place.mounts],
        init_containers=[pods.beside(experiment, "prepare", ["prepare", *_which()], shared)],
        sidecars=[
            pods.beside(experiment, "collector", ["collect", *_which()], shared),
            *collector_pod.beside(experiment, ID, directory, [*shared, *place.namespace]),
        ],
        **place.container,
        **place.template,
        **_common(experiment),
    )


def watcher(experiment: Experiment) -> Container:
    """The pod that creates a trial's object, follows it to its end and deletes it; the user's pods are the object's."""
    args = ["watch", *_which(), "--workflow", "{{workflow.name}}", "--uid", "{{workflow.uid}}"]
    semaphore = {key: value for key, value in trial_place(experiment).template.items() if key == "synchronization"}
    account = pods.Accounts.of(experiment).watching(experiment)
    return pods.step(experiment, "trial", "train", args, inputs=["id"], **semaphore, **account, **_common(experiment))


def _which() -> list[str]:
    return ["--run", pods.RUN, "--trial", ID, "--directory", DIRECTORY]


def _common(experiment: Experiment) -> dict[str, Any]:
    timeout = experiment.limits.trial_timeout
    strategy = pods.retry(experiment.limits.retries, cap="10m", expression=RETRY_IF)
    deadline = {} if timeout is None else {"active_deadline_seconds": str(math.ceil(timeout) + NET_SECONDS)}
    return {"retry_strategy": strategy, "labels": {LABEL: ID}, **deadline}


def shared_directory(experiment: Experiment) -> dict[str, str]:
    """The volume for metrics that the trial writes outside of /kf and /tmp, by name."""
    source, path = experiment.metrics.source, PurePosixPath(experiment.metrics.path or "")
    if source not in ("file", "tensorboard", "custom") or not path.is_absolute():
        return {}
    folder = path.parent if source == "file" else path
    known = [pods.SHARED, pods.TEMPORARY, *(volume.path for volume in experiment.argo.trial.volumes)]
    return {} if any(folder.is_relative_to(each) for each in known) else {"metrics": str(folder)}


TRIAL_PODS: dict[str, Callable[[Experiment], Container]] = {
    "function": in_process,
    "command": in_process,
    "container": any_image,
    "resource": watcher,
    "template": watcher,
}
