"""What a suggest pod has beside our own container: the user's program, or a service, that suggests.

They share one directory, or loopback, with our container, and nothing else: not its files, and not its settings.
"""

from typing import Any

from hera.workflows import UserContainer, models

from katib_flow.argo import pods
from katib_flow.argo.names import steps_image
from katib_flow.argo.placement import TrialPlace, resources
from katib_flow.outside.mailbox import VARIABLE
from katib_flow.outside.service import SERVICE_VARIABLE
from katib_flow.spec.experiment import Experiment

DIRECTORY = "/kf-algorithm"
_VOLUMES = {"algorithm": DIRECTORY}
_THEIRS = {**_VOLUMES, "algorithm-tmp": pods.TEMPORARY}


def beside(experiment: Experiment) -> dict[str, Any]:
    """Fields of the suggest template; none where the algorithm is one that our own container has."""
    if experiment.algorithm.container is not None:
        return _program(experiment)
    if experiment.algorithm.service is not None and experiment.algorithm.service.image is not None:
        return _service(experiment)
    return {}


def _program(experiment: Experiment) -> dict[str, Any]:
    container = experiment.algorithm.container
    assert container is not None
    serve = UserContainer(
        name="algorithm-files",
        image=steps_image(experiment),
        command=pods.command("suggest"),
        args=["--run", pods.RUN, "--serve", DIRECTORY],
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*pods.environment(experiment)],
        security_context=pods.container_security(),
        volume_mounts=[*pods.mounts(_VOLUMES)],
    )
    program = UserContainer(
        name="algorithm",
        image=container.image,
        command=[f"{DIRECTORY}/busybox", "sh", f"{DIRECTORY}/serve.sh"],
        working_dir=container.working_dir,
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*_variables({"HOME": pods.TEMPORARY, **container.env})],
        resources=resources(container.resources),
        security_context=pods.container_security(),
        volume_mounts=pods.mounts_of(_THEIRS),
    )
    return {"init_containers": [serve], "sidecars": [program], "place": _place({VARIABLE: DIRECTORY})}


def _service(experiment: Experiment) -> dict[str, Any]:
    service = experiment.algorithm.service
    assert service is not None
    container = UserContainer(
        name="algorithm",
        image=service.image,
        command=list(service.command) if service.command else None,
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*_variables({"HOME": pods.TEMPORARY})],
        resources=resources(service.resources),
        security_context=pods.container_security(),
        volume_mounts=pods.mounts_of(_THEIRS),
    )
    address = f"127.0.0.1:{service.port}"
    return {"sidecars": [container], "place": _place({SERVICE_VARIABLE: address})}


def _variables(values: dict[str, str]) -> list[models.EnvVar]:
    return [models.EnvVar(name=name, value=value.replace("$", "$$")) for name, value in values.items()]


def _place(environment: dict[str, str]) -> TrialPlace:
    names = [models.Volume(name=name, empty_dir=models.EmptyDirVolumeSource()) for name in _THEIRS]
    mounts = pods.mounts_of(_VOLUMES)
    return TrialPlace(container={"env": _variables(environment)}, volumes=names, mounts=mounts)
