"""The ``argo`` section of a spec: where and how the pods of an experiment run on a cluster."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from katib_flow.spec.model import Count, Model, Text, Whole
from katib_flow.spec.problems import NOTHING, matching, problem
from katib_flow.spec.sections import Duration
from katib_flow.spec.template import Resources

AbsolutePath = Annotated[str, matching(r"/.*[^/]", "an absolute path below /")]
VariableName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]


class Toleration(Model):
    """A toleration of a pod, as in Kubernetes; ``seconds`` is its ``tolerationSeconds``."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    seconds: Whole | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise problem("key", NOTHING, "the key of a taint, or operator: Exists")
        if self.operator == "Exists" and self.value:
            raise problem("value", self.value, "no value, because operator is Exists")
        return self


class Volume(Model):
    """A volume in the container of a trial: exactly one of claim, secret, config_map, memory."""

    path: AbsolutePath
    claim: Text | None = Field(default=None, description="a PersistentVolumeClaim")
    secret: Text | None = None
    config_map: Text | None = None
    memory: Text | None = Field(default=None, description="size of a file system in memory, such as for /dev/shm")
    sub_path: Text | None = None
    read_only: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("claim", "secret", "config_map", "memory")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise problem("", " and ".join(given) or NOTHING, f"exactly one of {', '.join(kinds)}")
        return self


class SecretKey(Model):
    """A reference to one value in a Secret."""

    secret: Text
    key: Text


class Checkpoints(Model):
    """The storage of the trials' checkpoints: a volume, or artifacts in MLflow if there is no claim.

    Attributes:
        every: least interval, in seconds, between uploads of a running trial's checkpoints to MLflow.
    """

    claim: Text | None = Field(default=None, description="a PersistentVolumeClaim with access mode ReadWriteMany")
    path: AbsolutePath = "/checkpoints"
    every: Duration = 300.0

    @model_validator(mode="after")
    def _volume_or_mlflow(self) -> Self:
        if self.claim is None and self.path != "/checkpoints":
            raise problem("path", self.path, "no path without a claim, which is mounted there")
        if self.claim is not None and self.every != 300.0:
            need = "no interval with a claim, because nothing is uploaded from a volume"
            raise problem("every", self.every, need)
        return self


class TrialPods(Model):
    """Properties of the trials' pods only."""

    resources: Resources = Field(default={}, description="of a function or command trial; a container has its own")
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    annotations: dict[str, str] = {}
    volumes: tuple[Volume, ...] = ()
    secrets: dict[VariableName, SecretKey] = Field(
        default={}, description="environment variables with values from Secrets"
    )
    secret_sets: tuple[Text, ...] = Field(default=(), description="Secrets whose keys all become environment variables")
    semaphore: Text | None = Field(
        default=None,
        description="a key of the ConfigMap kf-limits, which bounds the trials that run at once in all experiments",
    )


class StepPods(Model):
    """Properties of the pods of the steps other than trials: suggest, build-model, collect-metrics and so on."""

    resources: Resources = Field(default={}, description="building networks takes 500 MB or more")


class Argo(Model):
    """Where and how the pods run.

    Attributes:
        service_account: one account for all pods, instead of kf-trial, kf-executor, kf-submitter and kf-watcher.
        image: contains katib-flow and the dependencies of function and command trials.
        mode: ``barrier`` waits for a whole batch of trials before it suggests the next; ``lanes`` does not.
        ttl: seconds that a finished Workflow is kept; by default the controller decides.
        pod_gc: when finished pods are deleted.
        lock_pods: make Argo's own containers meet the restricted profile, whatever the settings of the controller.
    """

    namespace: Text | None = None
    service_account: Text | None = None
    image: Text | None = None
    mode: Literal["barrier", "lanes"] = "barrier"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    priority_class: Text | None = None
    priority: Whole | None = Field(default=None, description="priority of the Workflow in the controller's queue")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[Text, ...] = ()
    pod_gc: Literal["OnPodCompletion", "OnPodSuccess", "OnWorkflowCompletion", "OnWorkflowSuccess", "never"] = (
        "OnPodSuccess"
    )
    ttl: Duration | None = None
    checkpoints: Checkpoints = Checkpoints()
    lock_pods: bool = True
    iterations_per_segment: Annotated[Count, Field(le=40)] | None = None
    steps: StepPods = StepPods()
    trial: TrialPods = TrialPods()


def texts(model: Model) -> Iterator[tuple[str, str]]:
    """Each text in a section, keys included, as (path, text) pairs."""
    yield from _texts(model.model_dump(mode="json", exclude_defaults=True), "")


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
            yield f"{path}.{key}" if path else str(key), str(key)
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _texts(value, f"{path}[{position}]")
