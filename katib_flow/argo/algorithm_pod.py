"""Extra containers of a suggest pod: the user's algorithm program, or services that suggest trials or stop them early.

They share one directory or the loopback interface with the step's own container, but neither its files nor its
settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hera.workflows import UserContainer, models

from katib_flow.argo import pods
from katib_flow.argo.names import steps_image
from katib_flow.argo.placement import PodExtras, resources
from katib_flow.outside.mailbox import VARIABLE
from katib_flow.outside.service import EARLY_STOPPING, SUGGESTION, Kind
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Service
from katib_flow.spec.template import Container

DIRECTORY = "/kf-algorithm"
_SHARED = {"algorithm": DIRECTORY}


@dataclass
class _ExtraContainers:
    """Containers to add to a step's pod, and the volumes and variables that the step's own container needs for them."""

    experiment: Experiment
    init_containers: list[UserContainer] = field(default_factory=list[UserContainer])
    sidecars: list[UserContainer] = field(default_factory=list[UserContainer])
    volumes: list[str] = field(default_factory=list[str])
    mounts: dict[str, str] = field(default_factory=dict[str, str])
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def program(self, container: Container) -> None:
        """Add the container of the user's program, which a script of katib-flow starts."""
        self.volumes += _SHARED
        self.mounts |= _SHARED
        self.environment[VARIABLE] = DIRECTORY
        serve = UserContainer(
            name="algorithm-files",
            image=steps_image(self.experiment),
            command=pods.command("suggest"),
            args=["--run", pods.RUN, "--serve", DIRECTORY],
            image_pull_policy=self.experiment.argo.image_pull_policy,
            env=[*pods.environment(self.experiment)],
            security_context=pods.container_security(),
            volume_mounts=[*pods.mounts(_SHARED)],
        )
        self.init_containers.append(serve)
        command = [f"{DIRECTORY}/busybox", "sh", f"{DIRECTORY}/serve.sh"]
        fields: dict[str, Any] = {"working_dir": container.working_dir, "resources": resources(container.resources)}
        self._sidecar("algorithm", container.image, command, container.env, _SHARED, **fields)

    def service(self, name: str, kind: Kind, service: Service) -> None:
        """Add the container of a service, unless the service already runs elsewhere."""
        if service.image is not None:
            self.environment[kind.variable] = f"127.0.0.1:{service.port}"
            command = list(service.command) if service.command else None
            self._sidecar(name, service.image, command, {}, {}, resources=resources(service.resources))

    def _sidecar(
        self,
        name: str,
        image: str,
        command: list[str] | None,
        env: Mapping[str, str],
        mounts: Mapping[str, str],
        **fields: Any,
    ) -> None:
        """Add a container that has its own directory for temporary files."""
        temporary = f"{name}-tmp"
        self.volumes.append(temporary)
        container = UserContainer(
            name=name,
            image=image,
            command=command,
            image_pull_policy=self.experiment.argo.image_pull_policy,
            env=[*pods.variables({"HOME": pods.TEMPORARY, **env})],
            security_context=pods.container_security(),
            volume_mounts=pods.mounts_of({**mounts, temporary: pods.TEMPORARY}),
            **fields,
        )
        self.sidecars.append(container)

    def fields(self) -> dict[str, Any]:
        """Return the fields to add to the step's template."""
        if not self.sidecars:
            return {}
        volumes = [models.Volume(name=name, empty_dir=models.EmptyDirVolumeSource()) for name in self.volumes]
        mounts, container = pods.mounts_of(self.mounts), {"env": pods.variables(self.environment)}
        extras = PodExtras(container=container, volumes=volumes, mounts=mounts)
        return {"init_containers": self.init_containers or None, "sidecars": self.sidecars, "extras": extras}


def algorithm_fields(experiment: Experiment, *, starts_trials: bool = False) -> dict[str, Any]:
    """Return the template fields of a step that asks the algorithm; empty for an algorithm of katib-flow's own image.

    Args:
        starts_trials: whether the step also asks an early-stopping service for the rules of new trials.
    """
    algorithm, stopping, extra = experiment.algorithm, experiment.early_stopping, _ExtraContainers(experiment)
    if algorithm.container is not None:
        extra.program(algorithm.container)
    elif algorithm.service is not None:
        extra.service("algorithm", SUGGESTION, algorithm.service)
    if starts_trials and stopping is not None and stopping.service is not None:
        extra.service("stopping", EARLY_STOPPING, stopping.service)
    return extra.fields()
