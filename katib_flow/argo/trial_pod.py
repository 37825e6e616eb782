"""The pod of one trial, by kind of trial. A new kind is one more function in ``TRIAL_PODS``.

An image with katib-flow runs the whole trial in one container. Any other image is run by a static busybox that the
container ``prepare`` copies into the pod, while the container ``collector`` reads its output. Only these two containers
know MLflow's address.
"""

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from hera.workflows import Container, Parameter

from katib_flow.argo import collector_pod, pods
from katib_flow.argo.names import TRIAL_LABEL as LABEL
from katib_flow.argo.placement import resources, trial_extras
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.protocol import USER_FAILURE, TrialDirectory

DIRECTORY = f"{pods.SHARED}/trial"
ID = "{{inputs.parameters.id}}"
NET_SECONDS = 900
"""Added to ``trial_timeout`` for the pod's deadline. The step enforces the timeout exactly; the deadline is the safety
net for a pod that hangs, and also counts the image pull."""
RETRY_IF = f'lastRetry.exitCode != "{USER_FAILURE}" && !(lastRetry.message matches "OOMKilled|specified deadline")'
"""A failure of the user's program, or running out of memory, is a result of the trial; other failures are retried."""


def in_process(experiment: Experiment) -> Container:
    """Return the pod of a function or command trial, whose image contains katib-flow."""
    extras, amounts = trial_extras(experiment), resources(experiment.argo.trial.resources)
    args = ["run", *_which()]
    common = _common(experiment)
    return pods.step(experiment, "trial", "train", args, inputs=["id"], extras=extras, resources=amounts, **common)


def any_image(experiment: Experiment) -> Container:
    """Return the pod of a container trial, whose image needs neither Python nor katib-flow."""
    container, extras = experiment.trial.container, trial_extras(experiment)
    assert container is not None
    metrics = shared_directory(experiment)
    shared = [*pods.mounts_of(metrics), *extras.checkpoints]
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
        volumes=[*pods.volumes(metrics), *extras.volumes],
        volume_mounts=[*pods.mounts(metrics), *extras.mounts],
        init_containers=[pods.train_container(experiment, "prepare", ["prepare", *_which()], shared)],
        sidecars=[
            pods.train_container(experiment, "collector", ["collect", *_which()], shared),
            *collector_pod.collector_containers(experiment, ID, directory, [*shared, *extras.namespace]),
        ],
        **extras.container,
        **extras.template,
        **_common(experiment),
    )


def watcher(experiment: Experiment) -> Container:
    """Return the pod that creates a trial's object, follows it to its end and deletes it."""
    args = ["watch", *_which(), "--workflow", "{{workflow.name}}", "--uid", "{{workflow.uid}}"]
    semaphore = {key: value for key, value in trial_extras(experiment).template.items() if key == "synchronization"}
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
    """Return the volume for metrics written outside /kf and /tmp, as mount path by name; empty if none is needed."""
    source, path = experiment.metrics.source, PurePosixPath(experiment.metrics.path or "")
    if source not in ("file", "tensorboard", "custom") or not path.is_absolute():
        return {}
    folder = path.parent if source == "file" else path
    known = [pods.SHARED, pods.TEMPORARY, *(volume.path for volume in experiment.argo.trial.volumes)]
    return {} if any(folder.is_relative_to(path) for path in known) else {"metrics": str(folder)}


TRIAL_PODS: dict[str, Callable[[Experiment], Container]] = {
    "function": in_process,
    "command": in_process,
    "container": any_image,
    "resource": watcher,
    "template": watcher,
}
