"""The pod of one trial, by kind of trial: a new kind is one more function in ``TRIAL_PODS``.

An image with katib-flow runs the whole trial in one container. Any other image is run by a static busybox that
``prepare`` puts beside it, while ``collector`` reads what it prints; only these two know where MLflow is.
"""

import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from hera.workflows import Container, Parameter, models

from katib_flow.argo import pods
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.protocol import USER_FAILURE

DIRECTORY = f"{pods.SHARED}/trial"
ID = "{{inputs.parameters.id}}"
LABEL = "katib-flow/trial"
NET_SECONDS = 900
"""Added to ``trial_timeout`` for the pod's own deadline. The step keeps the time-out itself, exactly; the deadline is
the net for a pod that hangs, and its clock also runs while an image is pulled."""
RETRY_IF = f'lastRetry.exitCode != "{USER_FAILURE}" && !(lastRetry.message matches "OOMKilled|specified deadline")'
"""A user's failure, and too little memory, are results of the trial; everything else is the machine's fault."""


def in_process(experiment: Experiment) -> Container:
    """A function or a command, in an image that has katib-flow."""
    return pods.step(experiment, "trial", "train", ["run", *_which()], inputs=["id"], **_common(experiment))


def any_image(experiment: Experiment) -> Container:
    """A container of the user's own, which needs no Python and none of our code."""
    container = experiment.trial.container
    assert container is not None
    shared = shared_directory(experiment)
    amounts = {kind: {name: str(value) for name, value in each.items()} for kind, each in container.resources.items()}
    return Container(
        name="trial",
        inputs=[Parameter(name="id")],
        image=container.image,
        command=[f"{pods.SHARED}/busybox", "sh", f"{pods.SHARED}/wrap.sh"],
        resources=models.ResourceRequirements.model_validate(amounts) if amounts else None,
        security_context=pods.container_security(),
        volumes=pods.volumes(shared),
        volume_mounts=pods.mounts(shared),
        init_containers=[pods.beside(experiment, "prepare", ["prepare", *_which()], shared)],
        sidecars=[pods.beside(experiment, "collector", ["collect", *_which()], shared)],
        **_common(experiment),
    )


def _which() -> list[str]:
    return ["--run", pods.RUN, "--trial", ID, "--directory", DIRECTORY]


def _common(experiment: Experiment) -> dict[str, Any]:
    timeout = experiment.limits.trial_timeout
    strategy = pods.retry(experiment.limits.retries, cap="10m", expression=RETRY_IF)
    deadline = {} if timeout is None else {"active_deadline_seconds": str(math.ceil(timeout) + NET_SECONDS)}
    return {"retry_strategy": strategy, "labels": {LABEL: ID}, **deadline}


def shared_directory(experiment: Experiment) -> dict[str, str]:
    """The volume for a metrics file that the trial writes outside of /kf and /tmp, by name."""
    if experiment.metrics.source != "file" or not (experiment.metrics.path or "").startswith("/"):
        return {}
    parent = PurePosixPath(experiment.metrics.path or "").parent
    inside = any(parent.is_relative_to(known) for known in (pods.SHARED, pods.TEMPORARY))
    return {} if inside else {"metrics": str(parent)}


TRIAL_PODS: dict[str, Callable[[Experiment], Container]] = {
    "function": in_process,
    "command": in_process,
    "container": any_image,
}
