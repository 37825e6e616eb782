"""The sections of a spec, each a frozen model that checks what can be checked without the others."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from katib_flow.spec.model import Count, Model, Natural, NotBoolean, Plain, PlainData, Real, Text, shorthand
from katib_flow.spec.problems import NOTHING, matching, problem
from katib_flow.spec.template import Argument, Argv, Container, Resources, Variables

AUTO, PROGRAM, SERVICE = "auto", "program", "service"
ANSWER_SECONDS = 60.0  # for an answer of what suggests, or stops, elsewhere
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = rf"(?=.)(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?"
_SECONDS = (86_400.0, 3600.0, 60.0, 1.0)


def _seconds(value: Any) -> float:
    """Seconds of ``90``, ``"90s"``, ``"1h30m"`` or ``"2d"``."""
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
    """A metric, the direction in which it is better, and the value that ends the search."""

    metric: Text
    direction: Literal["maximize", "minimize"]
    goal: Real | None = None

    def loss(self, value: float) -> float:
        """The value with the sign that makes lower better."""
        return value if self.direction == "minimize" else -value

    def reached(self, value: float) -> bool:
        return self.goal is not None and self.loss(value) <= self.loss(self.goal)


class Service(Model):
    """A service that suggests over Katib's gRPC API, ``api.v1.beta1.Suggestion``.

    Attributes:
        address: where it runs already.
        image, command: of a container beside the suggest step, on a cluster; left out, the command is the image's.
        port: on which that container listens.
    """

    address: Annotated[Text, matching(r"[^\s/]+:[0-9]{1,5}", "host:port")] | None = None
    image: Text | None = None
    command: Argv | None = None
    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] = 6789
    resources: Resources = {}

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.address is None and self.image is None:
            raise problem("", NOTHING, "address, where the service runs; or image, which runs it on a cluster")
        if self.command is not None and self.image is None:
            raise problem("command", list(self.command), "image as well: the command runs in it")
        return self


class AlgorithmSpec(Model):
    """Which algorithm, and how: one of katib-flow's or of an installed package by its name, or one that runs elsewhere.

    Attributes:
        name: of the algorithm; of a service, the name that it is asked for.
        why: why this one, for a person; auto says so here when the experiment begins.
        command: a program that suggests, on this machine, and on a cluster in the steps' image.
        container: an image with such a program, for a cluster.
        service: a service that suggests.
        timeout: seconds for which one answer of a program or a service is waited for; 60 where it is left out.
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
        """A program needs no name: it is called one."""
        if isinstance(data, dict) and "name" not in data and (data.get("command") or data.get("container")):
            return {"name": PROGRAM, **data}
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        runs_program = self.command is not None or self.container is not None
        if self.service is not None and runs_program:
            raise problem("service", "a service and a program", "one of them: both would suggest")
        if self.service is not None and self.name == AUTO:
            found = AUTO if "name" in self.model_fields_set else NOTHING
            raise problem("name", found, "the name of the algorithm that the service is asked for")
        if self.timeout is not None and self.service is None and not runs_program:
            raise problem("timeout", self.timeout, "command, container or service as well: other algorithms run here")
        return self

    @property
    def answer_seconds(self) -> float:
        """For which one answer of a program or a service is waited for."""
        return ANSWER_SECONDS if self.timeout is None else self.timeout

    @property
    def registered_name(self) -> str:
        """The name under which what answers is registered."""
        if self.service is not None:
            return SERVICE
        return self.name if self.command is None and self.container is None else PROGRAM


class Budget(Model):
    """What a trial may spend, given to it as the value of a parameter (Li et al., JMLR 2018: R is ``max``)."""

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
    """A service that says when a trial should end, over Katib's gRPC API, ``api.v1.beta1.EarlyStopping``."""

    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] = 6788


class EarlyStopping(Model):
    """What ends a trial that is not worth its time: a rule by its name, or a service.

    Attributes:
        name: of the rule; of a service, the name that it is asked for.
        service: a service that gives rules for a trial when it is suggested.
        timeout: seconds for which an answer of the service is waited for; 60 where it is left out.
    """

    name: Text
    settings: PlainData = {}
    service: Annotated[StoppingService, shorthand("address")] | None = None
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.timeout is not None and self.service is None:
            raise problem("timeout", self.timeout, "service as well: the other rules are judged here, at once")
        return self

    @property
    def answer_seconds(self) -> float:
        """For which an answer of the service is waited for."""
        return ANSWER_SECONDS if self.timeout is None else self.timeout


class Limits(Model):
    """What ends an experiment.

    Attributes:
        max_failed_trials: the experiment fails when more trials than this have failed.
        retries: how often a trial is started again after a fault of the machine (never after its own failure).
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
    """A container of the user's own that reads a trial's metrics, beside the container of the trial.

    Attributes:
        command: left out, it is the image's own, which starts with the trial.
        starts: when its program does.
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
            need = "the command that starts after the trial; or starts: with-trial, as the image's own command does"
            raise problem("command", NOTHING, need)
        return self


class Metrics(Model):
    """Where metrics come from, and how a series becomes one observation.

    Attributes:
        command: a program that reads them when the trial has ended, on this machine or in the trials' image.
        container: the same for trials that are a container.
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
            raise problem("path", NOTHING, f"the path the trial writes to, because source is {self.source}")
        if self.source == "prometheus" and self.port is None:
            raise problem("port", NOTHING, "the port the trial serves on, because source is prometheus")
        if self.source == "custom" and self.command is None and self.container is None:
            need = "a container, or beside it command, a program, that reads the metrics, because source is custom"
            raise problem("container", NOTHING, need)
        for key, given in (("command", self.command), ("container", self.container)):
            if given is not None and self.source != "custom":
                raise problem(key, self.source, "source: custom as well: nothing else starts a program of one's own")
        for pattern in self.filter:
            self._check_filter(pattern)
        return self

    def _check_filter(self, pattern: str) -> None:
        if self.format != "text":
            raise problem("filter", pattern, f"nothing here, because format is {self.format}")
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise problem("filter", pattern, f"a regular expression ({error})") from error
        if groups < 2:
            raise problem("filter", pattern, "a regular expression with two groups, the name and the value")


class Tracking(Model):
    uri: str | None = None
    experiment: Text = "katib-flow"
    register_model: Text | None = None


class Architecture(Model):
    """The search space of a neural architecture: a preset by name, or a space of one's own."""

    space: Annotated[Text | dict[str, Any], Plain]
    settings: PlainData = {}
