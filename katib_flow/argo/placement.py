"""Turn the ``argo`` section of a spec into fields of the Workflow and of the pods' templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hera.workflows import models

from katib_flow.argo.names import LIMITS
from katib_flow.metrics.katib import DB_MANAGERS, NAMESPACE_FILE
from katib_flow.spec.argo import Argo, Toleration, Volume
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.template import Resources

CHECKPOINTS, NAMESPACE = "checkpoints", "namespace"


def workflow_fields(experiment: Experiment, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of the Workflow: the settings common to all pods, and how long pods and Workflow are kept."""
    argo = experiment.argo
    fields: dict[str, Any] = {
        "labels": {**argo.labels, **labels},
        "pod_metadata": models.Metadata(labels={**argo.labels, **labels}, annotations=argo.annotations or None),
        "node_selector": argo.node_selector or None,
        "tolerations": _tolerations(argo.tolerations) or None,
        "pod_priority_class_name": argo.priority_class,
        "priority": argo.priority,
        "image_pull_secrets": [models.LocalObjectReference(name=name) for name in argo.image_pull_secrets] or None,
    }
    if argo.pod_gc != "never":
        fields["pod_gc"] = models.PodGC(strategy=argo.pod_gc, delete_delay_duration="60s")
    if argo.ttl is not None:
        fields["ttl_strategy"] = models.TTLStrategy(seconds_after_completion=int(argo.ttl))
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class PodExtras:
    """Fields of a pod beyond those of every step.

    Attributes:
        template: fields of the template.
        container: fields of the container that runs the user's program.
        volumes, mounts: volumes of the pod, and mounts of that container.
        checkpoints: mounts that katib-flow's containers need too.
        namespace: mounts of the container that reports metrics through Katib's SDK; if that is the user's container,
            ``mounts`` includes them.
    """

    template: dict[str, Any] = field(default_factory=dict[str, Any])
    container: dict[str, Any] = field(default_factory=dict[str, Any])
    volumes: Sequence[models.Volume] = ()
    mounts: Sequence[models.VolumeMount] = ()
    checkpoints: Sequence[models.VolumeMount] = ()
    namespace: Sequence[models.VolumeMount] = ()


NO_EXTRAS = PodExtras()


def _namespace() -> models.Volume:
    """Return the volume of the file from which Katib's SDK reads the namespace.

    It usually comes with a service account's token, which trials do not have.
    """
    field = models.ObjectFieldSelector(field_path="metadata.namespace")
    file = models.DownwardAPIVolumeFile(path=NAMESPACE_FILE.name, field_ref=field)
    return models.Volume(name=NAMESPACE, downward_api=models.DownwardAPIVolumeSource(items=[file]))


def trial_extras(experiment: Experiment) -> PodExtras:
    """Return what the spec gives to trials' pods: placement, secrets, volumes and the checkpoint volume."""
    argo, pod = experiment.argo, experiment.argo.trial
    reporting = experiment.metrics.source in ("katib", "custom")
    template: dict[str, Any] = {
        "host_aliases": [models.HostAlias(ip="127.0.0.1", hostnames=list(DB_MANAGERS))] if reporting else None,
        "node_selector": {**argo.node_selector, **pod.node_selector} if pod.node_selector else None,
        "tolerations": [*_tolerations(argo.tolerations), *_tolerations(pod.tolerations)] if pod.tolerations else None,
        "annotations": pod.annotations or None,
        "synchronization": _semaphore(pod.semaphore) if pod.semaphore else None,
    }
    container: dict[str, Any] = {
        "env": [_secret_variable(name, entry.secret, entry.key) for name, entry in pod.secrets.items()],
        "env_from": [models.EnvFromSource(secret_ref=models.SecretEnvSource(name=name)) for name in pod.secret_sets],
    }
    named = {f"user-{position}": volume for position, volume in enumerate(pod.volumes)}
    volumes = [_volume(name, volume) for name, volume in named.items()]
    mounts = [_mount(name, volume) for name, volume in named.items()]
    namespace: list[models.VolumeMount] = []
    if reporting and not any(NAMESPACE_FILE.is_relative_to(volume.path) for volume in pod.volumes):
        volumes.append(_namespace())
        namespace = [models.VolumeMount(name=NAMESPACE, mount_path=str(NAMESPACE_FILE.parent), read_only=True)]
        mounts += namespace if experiment.metrics.container is None else []
    checkpoints = _checkpoints(argo)
    return PodExtras(
        template={key: value for key, value in template.items() if value is not None},
        container={key: value for key, value in container.items() if value},
        volumes=[*volumes, *(volume for volume, _ in checkpoints)],
        mounts=[*mounts, *(mount for _, mount in checkpoints)],
        checkpoints=[mount for _, mount in checkpoints],
        namespace=namespace,
    )


def resources(amounts: Resources) -> models.ResourceRequirements | None:
    """Return resource requirements with amounts as text, which Kubernetes accepts for any quantity; None if empty."""
    texts = {kind: {name: str(value) for name, value in values.items()} for kind, values in amounts.items()}
    return models.ResourceRequirements.model_validate(texts) if texts else None


def _checkpoints(argo: Argo) -> list[tuple[models.Volume, models.VolumeMount]]:
    if argo.checkpoints.claim is None:
        return []
    claim = models.PersistentVolumeClaimVolumeSource(claim_name=argo.checkpoints.claim)
    mount = models.VolumeMount(name=CHECKPOINTS, mount_path=argo.checkpoints.path)
    return [(models.Volume(name=CHECKPOINTS, persistent_volume_claim=claim), mount)]


def _tolerations(tolerations: Sequence[Toleration]) -> list[models.Toleration]:
    return [
        models.Toleration(
            key=toleration.key or None,
            operator=toleration.operator,
            value=toleration.value or None,
            effect=toleration.effect or None,
            toleration_seconds=toleration.seconds,
        )
        for toleration in tolerations
    ]


def _volume(name: str, volume: Volume) -> models.Volume:
    source: dict[str, Any]
    if volume.claim:
        source = {"persistent_volume_claim": models.PersistentVolumeClaimVolumeSource(claim_name=volume.claim)}
    elif volume.secret:
        source = {"secret": models.SecretVolumeSource(secret_name=volume.secret)}
    elif volume.config_map:
        source = {"config_map": models.ConfigMapVolumeSource(name=volume.config_map)}
    else:
        size = models.Quantity(root=volume.memory or "")
        source = {"empty_dir": models.EmptyDirVolumeSource(medium="Memory", size_limit=size)}
    return models.Volume(name=name, **source)


def _mount(name: str, volume: Volume) -> models.VolumeMount:
    return models.VolumeMount(
        name=name, mount_path=volume.path, sub_path=volume.sub_path, read_only=volume.read_only or None
    )


def _secret_variable(name: str, secret: str, key: str) -> models.EnvVar:
    reference = models.SecretKeySelector(name=secret, key=key)
    return models.EnvVar(name=name, value_from=models.EnvVarSource(secret_key_ref=reference))


def _semaphore(key: str) -> models.Synchronization:
    selector = models.ConfigMapKeySelector(name=LIMITS, key=key)
    return models.Synchronization(semaphores=[models.SemaphoreRef(config_map_key_ref=selector)])
