"""Building blocks of all pods: security, volumes, retries, environment. All pods meet the restricted pod standard."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hera.workflows import Container, Parameter, RetryStrategy, UserContainer, models

from katib_flow.argo.names import NAMESPACE_VARIABLE, SPEC_VARIABLE, TRY_LATER, UNPRIVILEGED, USER, steps_image
from katib_flow.argo.placement import NO_EXTRAS, PodExtras
from katib_flow.spec.experiment import Experiment

SHARED, TEMPORARY = "/kf", "/tmp"  # noqa: S108 - emptyDirs, the only directories that a pod can write to
SETTINGS = "katib-flow"  # optional ConfigMap and Secret of a namespace: MLFLOW_TRACKING_URI, credentials
CHANCES = 3  # retries of a step that failed for a reason other than an outage of MLflow
RUN, SEGMENT = "{{workflow.parameters.run}}", "{{workflow.parameters.segment}}"

POD_SPEC_PATCH = json.dumps(  # restricts Argo's own containers, which otherwise only the controller's settings can do
    {
        "initContainers": [{"name": "init", "securityContext": UNPRIVILEGED}],
        "containers": [{"name": "wait", "securityContext": UNPRIVILEGED}],
    }
)

# Hera leaves these models incomplete until their first use, where pydantic completes them without a lock: one of two
# threads that compile at once could fail
for _model in (
    *(models.ClusterWorkflowTemplate, models.WorkflowTemplate, models.Workflow),
    *(models.WorkflowSpec, models.WorkflowStep, models.DAGTask),
):
    _model.model_rebuild()


@dataclass(frozen=True)
class Accounts:
    """Service accounts of the pods, each with the least rights.

    Attributes:
        trial: trials; no rights and no token.
        executor: Argo's executor, which reports a pod's outputs.
        submitter: handover and run-experiment, which create Workflows.
        watcher: the pods that create and watch the objects of resource and template trials.
        reader: the steps that read from the Workflow how trials' pods ended.
    """

    trial: str = "kf-trial"
    executor: str = "kf-executor"
    submitter: str = "kf-submitter"
    watcher: str = "kf-watcher"
    reader: str = "kf-reader"

    @classmethod
    def of(cls, experiment: Experiment) -> "Accounts":
        """Return the accounts of an experiment: ``argo.service_account`` for all pods, or the defaults."""
        account = experiment.argo.service_account
        return cls(account, account, account, account, account) if account else cls()

    def watching(self, experiment: Experiment) -> dict[str, Any]:
        """Return the template fields of a step that manages trials' objects; empty if trials are not objects."""
        if experiment.trial.kind not in ("resource", "template"):
            return {}
        return {"service_account_name": self.watcher, "automount_service_account_token": True}

    def judging(self, experiment: Experiment) -> dict[str, Any]:
        """Return the template fields of a step that reads how trials' pods ended and deletes trials' objects."""
        reading = {"service_account_name": self.reader, "automount_service_account_token": True}
        return self.watching(experiment) or reading


def pod_security() -> models.PodSecurityContext:
    """Return the security context of a pod, as the restricted standard requires."""
    return models.PodSecurityContext(
        run_as_non_root=True,
        run_as_user=USER,
        fs_group=USER,
        seccomp_profile=models.SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> models.SecurityContext:
    """Return the security context of a container, as the restricted standard requires, with a read-only root."""
    return models.SecurityContext(
        allow_privilege_escalation=False,
        capabilities=models.Capabilities(drop=["ALL"]),
        read_only_root_filesystem=True,
    )


def volumes(extra: Mapping[str, str] | None = None) -> list[models.Volume]:
    """Return the emptyDir volumes of a pod.

    Args:
        extra: mount paths of further emptyDirs, keyed by volume name.
    """
    return [models.Volume(name=name, empty_dir=models.EmptyDirVolumeSource()) for name in ("kf", "tmp", *(extra or {}))]


def mounts(extra: Mapping[str, str] | None = None) -> list[models.VolumeMount]:
    """Return the mounts of ``volumes(extra)``."""
    return mounts_of({"kf": SHARED, "tmp": TEMPORARY, **(extra or {})})


def mounts_of(paths: Mapping[str, str]) -> list[models.VolumeMount]:
    """Return mounts from paths keyed by volume name."""
    return [models.VolumeMount(name=name, mount_path=path) for name, path in paths.items()]


def retry(limit: int, *, first: str = "2s", cap: str = "1m", expression: str | None = None) -> RetryStrategy:
    """Return a retry strategy for a leaf template. Numbers are text, which both Kubernetes and Argo's schema accept."""
    backoff = models.Backoff(duration=first, factor=models.IntOrString(root="2"), cap=cap)
    return RetryStrategy(limit=str(limit), retry_policy="Always", backoff=backoff, expression=expression)


def step_retry(unless: str | None = None) -> RetryStrategy:
    """Return the retry strategy of a katib-flow step: a few retries for any failure, more for an outage of MLflow.

    A step waits five minutes for MLflow before it exits with ``TRY_LATER``. Thirteen attempts, with pauses of 2 s to
    5 min between them, outlast an outage of an hour. A step that exceeded its own deadline is not retried.

    Args:
        unless: an exit code that is a result and is not retried.
    """
    late = 'lastRetry.message matches "specified deadline"'  # the step hung, or its image cannot be pulled
    expression = f'lastRetry.exitCode == "{TRY_LATER}" || (int(retries) < {CHANCES} && !({late}))'
    if unless is not None:
        expression = f'lastRetry.exitCode != "{unless}" && ({expression})'
    return retry(12, cap="5m", expression=expression)


def environment(experiment: Experiment) -> list[models.EnvVar]:
    """Return the variables of every step: the spec, the namespace, and HOME and USER, since images lack the user id."""
    here = {SPEC_VARIABLE: "{{workflow.parameters.spec}}", NAMESPACE_VARIABLE: "{{workflow.namespace}}"}
    values = {**here, "HOME": TEMPORARY, "USER": "katib-flow"}
    if experiment.tracking.uri is not None:
        values["MLFLOW_TRACKING_URI"] = experiment.tracking.uri.replace("$", "$$")  # Kubernetes turns $$ into $
    return [models.EnvVar(name=name, value=value) for name, value in values.items()]


def variables(values: Mapping[str, str]) -> list[models.EnvVar]:
    """Return literal variables of a user's container; ``$`` is doubled because Kubernetes turns ``$$`` into ``$``."""
    return [models.EnvVar(name=name, value=value.replace("$", "$$")) for name, value in values.items()]


def settings() -> list[models.EnvFromSource]:
    """Return the optional settings of the namespace: the tracking server's address and credentials."""
    return [
        models.EnvFromSource(config_map_ref=models.ConfigMapEnvSource(name=SETTINGS, optional=True)),
        models.EnvFromSource(secret_ref=models.SecretEnvSource(name=SETTINGS, optional=True)),
    ]


def command(program: str) -> list[str]:
    """Return the command of a step. The wheel contains the programs of steps/ as katib_flow.steps."""
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
    extras: PodExtras = NO_EXTRAS,
    **fields: Any,
) -> Container:
    """Return the template of a pod whose one container runs a program of steps/.

    Args:
        inputs: names of the input parameters.
        outputs: names of the output parameters; each is read from the file of that name under /kf.
        extras: fields beyond those of every step.
        fields: further fields of the template.
    """
    return Container(
        name=name,
        image=steps_image(experiment),
        command=command(program),
        args=list(args),
        inputs=[Parameter(name=key) for key in inputs],
        outputs=[Parameter(name=key, value_from=models.ValueFrom(path=f"{SHARED}/{key}")) for key in outputs],
        image_pull_policy=experiment.argo.image_pull_policy,
        env=[*environment(experiment), *extras.container.get("env", [])],
        env_from=[*settings(), *extras.container.get("env_from", [])],
        security_context=container_security(),
        volumes=[*volumes(), *extras.volumes],
        volume_mounts=[*mounts(), *extras.mounts],
        retry_strategy=retry_strategy or step_retry(),
        **extras.template,
        **fields,
    )


def train_container(
    experiment: Experiment, name: str, args: Sequence[str], more: Sequence[models.VolumeMount]
) -> UserContainer:
    """Return a container that runs the step ``train`` beside the user's container.

    Args:
        args: arguments of ``train``.
        more: mounts in addition to those of every step.
    """
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
