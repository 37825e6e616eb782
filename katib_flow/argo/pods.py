"""Building blocks of every pod: security, volumes, retries, environment. All pods meet the restricted profile."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hera.workflows import Container, Parameter, RetryStrategy, UserContainer, models

from katib_flow.argo.names import NAMESPACE_VARIABLE, SPEC_VARIABLE, TRY_LATER, UNPRIVILEGED, USER, steps_image
from katib_flow.argo.placement import NOWHERE, TrialPlace
from katib_flow.spec.experiment import Experiment

SHARED, TEMPORARY = "/kf", "/tmp"  # noqa: S108 - emptyDirs of the pod, the only places it can write to
SETTINGS = "katib-flow"  # ConfigMap and Secret that a namespace may have: MLFLOW_TRACKING_URI, credentials
CHANCES = 3  # retries of a step that failed for another reason than an outage of MLflow
RUN, SEGMENT = "{{workflow.parameters.run}}", "{{workflow.parameters.segment}}"

POD_SPEC_PATCH = json.dumps(  # Argo's own containers; without it the controller's settings would have to lock them
    {
        "initContainers": [{"name": "init", "securityContext": UNPRIVILEGED}],
        "containers": [{"name": "wait", "securityContext": UNPRIVILEGED}],
    }
)


@dataclass(frozen=True)
class Accounts:
    """Service accounts: trials have no rights and no token; only handover may create workflows, only what watches the
    objects of resource and template trials may touch these, and what judges trials may read how their pods ended."""

    trial: str = "kf-trial"
    executor: str = "kf-executor"
    submitter: str = "kf-submitter"
    watcher: str = "kf-watcher"
    reader: str = "kf-reader"

    @classmethod
    def of(cls, experiment: Experiment) -> "Accounts":
        one = experiment.argo.service_account
        return cls(one, one, one, one, one) if one else cls()

    def watching(self, experiment: Experiment) -> dict[str, Any]:
        """Fields of a template that talks to the cluster where trials are objects; none where they are not."""
        if experiment.trial.kind not in ("resource", "template"):
            return {}
        return {"service_account_name": self.watcher, "automount_service_account_token": True}

    def judging(self, experiment: Experiment) -> dict[str, Any]:
        """Fields of a template that asks Argo what became of trials' pods, and deletes trials' objects."""
        reading = {"service_account_name": self.reader, "automount_service_account_token": True}
        return self.watching(experiment) or reading


def pod_security() -> models.PodSecurityContext:
    return models.PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        fs_group=USER,
        seccomp_profile=models.SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> models.SecurityContext:
    return models.SecurityContext(
        allow_privilege_escalation=False,
        capabilities=models.Capabilities(drop=["ALL"]),
        read_only_root_filesystem=True,
    )


def volumes(extra: Mapping[str, str] | None = None) -> list[models.Volume]:
    """The emptyDirs of a pod.

    Args:
        extra: name -> mount path of further ones.
    """
    return [models.Volume(name=name, empty_dir=models.EmptyDirVolumeSource()) for name in ("kf", "tmp", *(extra or {}))]


def mounts(extra: Mapping[str, str] | None = None) -> list[models.VolumeMount]:
    return mounts_of({"kf": SHARED, "tmp": TEMPORARY, **(extra or {})})


def mounts_of(paths: Mapping[str, str]) -> list[models.VolumeMount]:
    return [models.VolumeMount(name=name, mount_path=path) for name, path in paths.items()]


def retry(limit: int, *, first: str = "2s", cap: str = "1m", expression: str | None = None) -> RetryStrategy:
    """A retry strategy for a leaf template; numbers as text, which both Kubernetes and Argo's schema take."""
    backoff = models.Backoff(duration=first, factor=models.IntOrString(root="2"), cap=cap)
    return RetryStrategy(limit=str(limit), retry_policy="Always", backoff=backoff, expression=expression)


def step_retry(unless: str | None = None) -> RetryStrategy:
    """How a step of ours is tried again: a few times for what may be chance, and through an outage of MLflow.

    A step waits for MLflow for five minutes before it ends with ``TRY_LATER``; thirteen tries with their pauses, 2 s to
    5 min, see an outage of an hour through.

    A step that outlived its own deadline is not tried again.

    Args:
        unless: an exit code that is an answer, and not tried again.
    """
    late = 'lastRetry.message matches "specified deadline"'  # it hung, or its image cannot be had
    expression = f'lastRetry.exitCode == "{TRY_LATER}" || (int(retries) < {CHANCES} && !({late}))'
    if unless is not None:
        expression = f'lastRetry.exitCode != "{unless}" && ({expression})'
    return retry(12, cap="5m", expression=expression)


def environment(experiment: Experiment) -> list[models.EnvVar]:
    """What every step gets: the spec, where it runs, and a home and a name for a user id that no image knows."""
    here = {SPEC_VARIABLE: "{{workflow.parameters.spec}}", NAMESPACE_VARIABLE: "{{workflow.namespace}}"}
    values = {**here, "HOME": TEMPORARY, "USER": "katib-flow"}
    if experiment.tracking.uri is not None:
        values["MLFLOW_TRACKING_URI"] = experiment.tracking.uri.replace("$", "$$")  # Kubernetes halves it again
    return [models.EnvVar(name=name, value=value) for name, value in values.items()]


def variables(values: Mapping[str, str]) -> list[models.EnvVar]:
    """Variables of a user's container, whose values stand as they are: Kubernetes would halve a ``$$``."""
    return [models.EnvVar(name=name, value=value.replace("$", "$$")) for name, value in values.items()]


def settings() -> list[models.EnvFromSource]:
    """The namespace's own settings, where it has any: the tracking server's address and credentials."""
    return [
        models.EnvFromSource(config_map_ref=models.ConfigMapEnvSource(name=SETTINGS, optional=True)),
        models.EnvFromSource(secret_ref=models.SecretEnvSource(name=SETTINGS, optional=True)),
    ]


def command(program: str) -> list[str]:
    """How a step's program is started; the programs of steps/ are in the wheel as katib_flow.steps."""
    return ["python3", "-m", f"katib_flow.steps.{program}"]


def step(
    experiment: Experiment,
    name: str,
    program: str,
    args: Sequence[str],
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    retry_strategy: RetryStrategy | None = None,
    place: TrialPlace = NOWHERE,
    **fields: Any,
) -> Container:
    """A pod of one container that runs one program of steps/.

    Args:
        inputs: names of its parameters.
        outputs: names of its output parameters; each is the file of that name under /kf.
        place: what it is given beyond other pods.
    """
    given = place.container
    return Container(
        name=name,
        image=steps_image(experiment),
        command=command(program),
        args=list(args),
        inputs=[Parameter(name=each) for each in inputs],
        outputs=[Parameter(name=each, value_from=models.ValueFrom(path=f"{SHARED}/{each}")) for each in outputs],
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*environment(experiment), *given.get("env", [])],
        env_from=[*settings(), *given.get("env_from", [])],
        security_context=container_security(),
        volumes=[*volumes(), *place.volumes],
        volume_mounts=[*mounts(), *place.mounts],
        retry_strategy=retry_strategy or step_retry(),
        **place.template,
        **fields,
    )


def beside(experiment: Experiment, name: str, args: Sequence[str], more: Sequence[models.VolumeMount]) -> UserContainer:
    """A container of ours beside the user's, running ``train`` with these arguments."""
    return UserContainer(
        name=name,
        image=steps_image(experiment),
        command=command("train"),
        args=list(args),
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*environment(experiment)],
        env_from=[*settings()],
        security_context=container_security(),
        volume_mounts=[*mounts(), *more],
    )
