"""The sections of a spec: frozen models, each of which checks the rules that concern it alone."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from katib_flow.spec.model import Count, Model, Natural, NotBoolean, Plain, PlainData, Real, Text, shorthand
from katib_flow.spec.problems import NOTHING, matching, problem
from katib_flow.spec.template import Argument, Argv, Container, Resources, Variables

AUTO, PROGRAM, SERVICE = "auto", "program", "service"
ANSWER_SECONDS = 60.0  # default timeout of one answer of an external program or service
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = rf"(?=.)(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?"
_SECONDS = (86_400.0, 3600.0, 60.0, 1.0)


def _seconds(value: Any) -> float:
    """Convert ``90``, ``"90s"``, ``"1h30m"`` or ``"2d"`` to seconds."""
    if isinstance(value, str) and (match := re.fullmatch(_DURATION, value.replace(" ", ""))):
        return sum(float(part or 0) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True))
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    raise problem("", value, "a number of seconds, or a duration such as 90s, 10m, 2h or 1h30m")


Duration = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]


class Objective(Model):
    """A metric, the direction in which it improves, and the value at which the search ends.

    Attributes:
        metric: the name of the metric.
        direction: whether higher or lower values are better.
        goal: the value at which the search ends.
    """

    metric: Text
    direction: Literal["maximize", "minimize"]
    goal: Real | None = None

    def loss(self, value: float) -> float:
        """The value, negated if the objective is maximized, so that lower is better."""
        return value if self.direction == "minimize" else -value

    def reached(self, value: float) -> bool:
        """True if the value is at the goal or better; always False without a goal."""
        return self.goal is not None and self.loss(value) <= self.loss(self.goal)


class Service(Model):
    """A suggestion service with Katib's gRPC API, ``api.v1.beta1.Suggestion``.

    Attributes:
        address: host and port of a service that is already running.
        image, command: the container that runs it beside the suggest step on a cluster; without a command, the image's
            own is used.
        port: the port on which that container listens.
    """

    address: Annotated[Text, matching(r"[^\s/]+:[0-9]{1,5}", "host:port")] | None = None
    image: Text | None = None
    command: Argv | None = None
    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] = 6789
    resources: Resources = {}

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.address is None and self.image is None:
            raise problem("", NOTHING, "the address of a running service, or an image to run on a cluster")
        if self.command is not None and self.image is None:
            raise problem("command", list(self.command), "an image as well, because the command runs in it")
        return self


class AlgorithmSpec(Model):
    """The algorithm and its settings: one of katib-flow or of an installed package by its name, or an external one.

    Attributes:
        name: name of the algorithm; with a service, the name that is sent to it.
        why: the reason for this choice, for people; ``auto`` writes its reason here when the experiment begins.
        command: a program that suggests, run on this machine, or in the image of the steps on a cluster.
        container: an image with such a program, for a cluster.
        service: a suggestion service.
        timeout: seconds to wait for one answer of a program or a service; 60 by default.
    """

    name: Text = AUTO
    seed: Natural = 0
    settings: PlainData = {}
    why: str = ""
    command: Argv | None = None
    container: Container | None = None
    service: Annotated[Service, shorthand("address")] | None = None
    timeout: Duration | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Give a program without a name the name ``program``."""
        if isinstance(data, dict) and "name" not in data and (data.get("command") or data.get("container")):
            return {"name": PROGRAM, **data}
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        runs_program = self.command is not None or self.container is not None
        if self.service is not None and runs_program:
            raise problem("service", "a service and a program", "only one of them, because both would suggest")
        if self.service is not None and self.name == AUTO:
            name = AUTO if "name" in self.model_fields_set else NOTHING
            raise problem("name", name, "the name of an algorithm of the service")
        if self.timeout is not None and self.service is None and not runs_program:
            need = "a command, container or service as well, because other algorithms run in this process"
            raise problem("timeout", self.timeout, need)
        return self

    @property
    def answer_seconds(self) -> float:
        """Seconds to wait for one answer of a program or a service."""
        return ANSWER_SECONDS if self.timeout is None else self.timeout

    @property
    def registered_name(self) -> str:
        """The name in the registry of algorithms: ``program`` or ``service`` for an external one."""
        if self.service is not None:
            return SERVICE
        return self.name if self.command is None and self.container is None else PROGRAM


class Budget(Model):
    """The resource that a trial may spend, passed to it as a parameter (R of Li et al., JMLR 2018, is ``max``).

    Attributes:
        parameter: the name of that parameter, which is not searched.
        min: the smallest budget.
        max: the largest budget.
        eta: the factor between the budgets of two rungs; the best 1/eta of a rung are promoted.
    """

    parameter: Text
    min: Count = 1
    max: Count
    eta: Annotated[int, Field(ge=2, le=1000), NotBoolean] = 3

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise problem("min", self.min, f"a number no greater than max, {self.max}")
        return self


class StoppingService(Service):
    """An early stopping service with Katib's gRPC API, ``api.v1.beta1.EarlyStopping``."""

    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] = 6788


class EarlyStopping(Model):
    """Early stopping of trials that are not worth their time: a rule by its name, or a service.

    Attributes:
        name: name of the rule; with a service, the name that is sent to it.
        service: a service that returns stopping rules for each suggested trial.
        timeout: seconds to wait for one answer of the service; 60 by default.
    """

    name: Text
    settings: PlainData = {}
    service: Annotated[StoppingService, shorthand("address")] | None = None
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.timeout is not None and self.service is None:
            raise problem(
                "timeout", self.timeout, "a service as well, because other rules are evaluated in this process"
            )
        return self

    @property
    def answer_seconds(self) -> float:
        """Seconds to wait for one answer of the service."""
        return ANSWER_SECONDS if self.timeout is None else self.timeout


class Limits(Model):
    """Bounds on an experiment and on each of its trials.

    Attributes:
        max_trials: the number of trials at which the experiment ends.
        parallel_trials: the number of trials that run at a time.
        timeout: the time for which the experiment runs in all, resumed runs included.
        trial_timeout: the time after which a trial fails.
        max_failed_trials: the experiment fails when more trials than this have failed.
        retries: how often a trial is restarted after a fault of the machine (never after its own failure).
    """

    max_trials: Count | None = None
    parallel_trials: Count = 1
    max_failed_trials: Natural = 3
    timeout: Duration | None = None
    trial_timeout: Duration | None = None
    retries: Natural = 2


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Collector(Model):
    """The user's own metrics collector: a container beside the container of the trial.

    Attributes:
        command: the program; without it, the image's own, which starts with the trial.
        starts: when the program starts.
    """

    image: Text
    command: Argv | None = None
    args: tuple[Argument, ...] = ()
    env: Variables = {}
    working_dir: str | None = None
    resources: Resources = {}
    starts: Literal["after-trial", "with-trial"] = "after-trial"

    @model_validator(mode="after")
    def _startable(self) -> Self:
        if self.command is None and self.starts == "after-trial":
            need = "the command to start after the trial, or starts: with-trial to use the image's own command"
            raise problem("command", NOTHING, need)
        return self


class Metrics(Model):
    """The source of the metrics, and how a series becomes one observation.

    Attributes:
        source: how a trial reports its metrics.
        format: the form of its lines.
        path: the file or directory of metrics, or the path of an endpoint.
        port: the port of an endpoint in the trial.
        strategy: the value of a series that counts, by the name of the metric; the latest by default.
        command: a program that reads the metrics when the trial has ended, on this machine or in the image of the
            trials.
        container: the same for container trials.
    """

    source: Literal["stdout", "file", "tensorboard", "prometheus", "katib", "custom", "push"] = "stdout"
    format: Literal["text", "json"] = "text"
    path: Text | None = None
    filter: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = Field(
        default=(), description="regular expressions; their first two groups are the name and the value"
    )
    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] | None = None
    command: Argv | None = None
    container: Collector | None = None
    strategy: dict[str, Literal["latest", "min", "max"]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("file", "tensorboard") and self.path is None:
            raise problem("path", NOTHING, f"the path that the trial writes to, because source is {self.source}")
        if self.source == "prometheus" and self.port is None:
            raise problem("port", NOTHING, "the port that the trial serves metrics on, because source is prometheus")
        if self.source == "custom" and self.command is None and self.container is None:
            need = "a container or a command that reads the metrics, because source is custom"
            raise problem("container", NOTHING, need)
        for key, given in (("command", self.command), ("container", self.container)):
            if given is not None and self.source != "custom":
                raise problem(key, self.source, f"source: custom as well, because no other source uses a {key}")
        for pattern in self.filter:
            self._check_filter(pattern)
        return self

    def _check_filter(self, pattern: str) -> None:
        if self.format != "text":
            raise problem("filter", pattern, f"no filter, because format is {self.format}")
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise problem("filter", pattern, f"a regular expression ({error})") from error
        if groups < 2:
            raise problem("filter", pattern, "a regular expression with two groups, the name and the value")


class Tracking(Model):
    """The MLflow store: its URI, the MLflow experiment, and the name to register the best trial's model under.

    Attributes:
        uri: the store; by default ``MLFLOW_TRACKING_URI``, or a SQLite file in the working directory.
        experiment: the name of the MLflow experiment that holds the runs.
        register_model: the name in MLflow's registry under which the best network is registered.
    """

    uri: str | None = None
    experiment: Text = "katib-flow"
    register_model: Text | None = None


class Architecture(Model):
    """The search space of a neural architecture: the name of a preset, or the user's own space.

    Attributes:
        space: the name of a preset, or a topology with slots.
        settings: the settings of a preset.
    """

    space: Annotated[Text | dict[str, Any], Plain]
    settings: PlainData = {}
