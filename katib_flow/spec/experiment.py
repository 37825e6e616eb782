"""The spec as frozen models. YAML and Python give the same objects; every rule is checked here, once."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, ValidationError, WithJsonSchema, model_validator

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Trial, Value
from katib_flow.spec.parameters import AnyParameter, Model, Scalar
from katib_flow.spec.problems import NOTHING, did_you_mean, problem, problems, spec_errors
from katib_flow.spec.space import SearchSpace
from katib_flow.spec.template import TrialTemplate, placeholders

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_DURATION = re.compile(rf"(\s*{_PART.pattern}\s*)+")


def parse_duration(value: Any) -> Any:
    """Seconds of ``90``, ``"90s"``, ``"1h30m"`` or ``"2d"``."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise problem("", value, "a number of seconds, or a duration such as 90s, 10m, 2h or 1h30m")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(\d+(\.\d+)?[smhd])+$"}]}),
]
Name = Annotated[str, Field(min_length=1)]


class Objective(Model):
    """A metric, the direction in which it is better, and the value that ends the search."""

    metric: Name
    direction: Literal["maximize", "minimize"]
    goal: FiniteFloat | None = None

    def loss(self, value: float) -> float:
        """The value with the sign that makes lower better."""
        return value if self.direction == "minimize" else -value

    def reached(self, value: float) -> bool:
        return self.goal is not None and self.loss(value) <= self.loss(self.goal)


class AlgorithmSpec(Model):
    name: Name = "random"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    settings: dict[str, Any] = {}


class Budget(Model):
    """What a trial may spend, given to it as the value of a parameter (Li et al., JMLR 2018: R is ``max``)."""

    parameter: Name
    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)]
    eta: Annotated[int, Field(ge=2)] = 3

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise problem("min", self.min, f"a number no greater than max, {self.max}")
        return self


class EarlyStopping(Model):
    name: Name
    settings: dict[str, Any] = {}


class Limits(Model):
    """What ends an experiment.

    Attributes:
        max_failed_trials: the experiment fails when more trials than this have failed.
        retries: how often a trial is started again after a fault of the machine (never after its own failure).
    """

    max_trials: Annotated[int, Field(ge=1)] | None = None
    parallel_trials: Annotated[int, Field(ge=1)] = 1
    max_failed_trials: Annotated[int, Field(ge=0)] = 3
    timeout: Duration | None = None
    trial_timeout: Duration | None = None
    retries: Annotated[int, Field(ge=0)] = 2


class Metrics(Model):
    """Where metrics come from, and how a series becomes one observation."""

    source: Literal["stdout", "file", "tensorboard", "prometheus", "push"] = "stdout"
    format: Literal["text", "json"] = "text"
    path: str | None = None
    filter: str | None = Field(default=None, description="regular expression with two groups, the name and the value")
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    strategy: dict[str, Literal["latest", "min", "max"]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("file", "tensorboard") and not self.path:
            raise problem("path", NOTHING, f"the path the trial writes to, because source is {self.source}")
        if self.source == "prometheus" and self.port is None:
            raise problem("port", NOTHING, "the port the trial serves on, because source is prometheus")
        if self.filter is not None:
            try:
                groups = re.compile(self.filter).groups
            except re.error as error:
                raise problem("filter", self.filter, f"a regular expression ({error})") from error
            if groups != 2:
                raise problem("filter", self.filter, "a regular expression with two groups, the name and the value")
        return self


class Tracking(Model):
    uri: str | None = None
    experiment: Name = "katib-flow"
    register_model: Name | None = None


class Argo(Model):
    namespace: Name | None = None
    service_account: Name | None = None
    image: Name | None = None
    mode: Literal["barrier", "lanes"] = "barrier"


class Architecture(Model):
    """The search space of a neural architecture: a preset by name, or a space of one's own."""

    space: Name | dict[str, Any]
    settings: dict[str, Any] = {}


def _shorthand(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, Mapping | Objective) else value


class Experiment(Model):
    """One search: objective, search space, algorithm, trial template, limits."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=45)]
    description: str = ""
    objective: Annotated[tuple[Objective, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    additional_metrics: tuple[Name, ...] = ()
    parameters: dict[str, AnyParameter] = {}
    architecture: Annotated[Architecture, _shorthand("space")] | None = None
    algorithm: Annotated[AlgorithmSpec, _shorthand("name")] = AlgorithmSpec()
    budget: Budget | None = None
    early_stopping: Annotated[EarlyStopping, _shorthand("name")] | None = None
    limits: Limits = Limits()
    trial: TrialTemplate
    metrics: Metrics = Metrics()
    tracking: Tracking = Tracking()
    argo: Argo = Argo()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := [*self._parameter_problems(), *self._metric_problems(), *self._trial_problems()]:
            raise problems(found)
        return self

    def _parameter_problems(self) -> Iterator[SpecError]:
        if not self.parameters and self.architecture is None:
            yield SpecError("parameters", NOTHING, "at least one parameter, or an architecture to search")
        circular = True
        for name, parameter in self.parameters.items():
            if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
                yield SpecError(
                    f"parameters.{name}", name, "a name of letters, digits, '_', '-' and '.', no digit first"
                )
            for parent, values in parameter.when.items():
                where = f"parameters.{name}.when.{parent}"
                if parent not in self.parameters or parent == name:
                    circular = False
                    others = [other for other in self.parameters if other != name]
                    yield SpecError(where, parent, f"another parameter's name{did_you_mean(parent, others)}")
                elif self.parameters[parent].size is None:
                    yield SpecError(where, parent, "a parent with countable values (not a float without a step)")
                else:
                    for value in values:
                        if not self.parameters[parent].contains(value):
                            yield SpecError(where, value, f"a value that {parent} can have")
        if circular:
            try:
                SearchSpace(self.parameters)
            except ValueError as error:
                yield SpecError("parameters", str(error), "conditions without a circle")
        if self.budget and self.budget.parameter in self.parameters:
            need = "a name that is not in parameters: the budget's value is set by the algorithm"
            yield SpecError("budget.parameter", self.budget.parameter, need)

    def _metric_problems(self) -> Iterator[SpecError]:
        names = [*(objective.metric for objective in self.objective), *self.additional_metrics]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield SpecError("additional_metrics" if name in self.additional_metrics else "objective", name, "each once")
        for name in self.metrics.strategy:
            if name not in names:
                known = f"a metric of the objective or of additional_metrics{did_you_mean(name, names)}"
                yield SpecError(f"metrics.strategy.{name}", name, known)

    def _trial_problems(self) -> Iterator[SpecError]:
        known = [*self.parameters, *([self.budget.parameter] if self.budget else []), *BUILTIN]
        for where, name in placeholders(self.trial):
            if name not in known:
                need = f"one of {', '.join(known)}{did_you_mean(name, known)}"
                yield SpecError(f"trial.{where}", f"${{{name}}}", need)
        ends = (self.limits.max_trials, self.limits.timeout, self.budget, *(each.goal for each in self.objective))
        if all(end is None for end in ends) and self._endless():
            yield SpecError(
                "limits", NOTHING, "what ends the experiment: max_trials, a timeout, or a goal in objective"
            )

    def _endless(self) -> bool:
        return self.architecture is not None or any(each.size is None for each in self.parameters.values())

    @cached_property
    def space(self) -> SearchSpace:
        return SearchSpace(self.parameters)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*(objective.metric for objective in self.objective), *self.additional_metrics)

    def best(self, trials: Any) -> Trial | None:
        """The best of the trials by the first objective, the earliest of equals; None where none has a finite value."""
        first = self.objective[0]
        scored = [
            (first.loss(value), trial.index, trial)
            for trial in trials
            if (value := trial.observed(first.metric)) is not None
        ]
        return min(scored, key=lambda entry: entry[:2])[2] if scored else None

    @classmethod
    def parse(cls, data: Any, source: str = "") -> "Experiment":
        """An experiment of plain data.

        Raises:
            InvalidSpec: with every mistake that was found.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidSpec(source, spec_errors(error, cls, data)) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data that parses to an equal experiment; defaults are left out."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name, parameter in self.parameters.items():
            data["parameters"][name] = {"type": parameter.type, **data["parameters"][name]}
        if len(self.objective) == 1:
            data["objective"] = data["objective"][0]
        return data


BUILTIN = (
    "trial.id",
    "trial.name",
    "trial.checkpoint_dir",
    "trial.parent_checkpoint_dir",
    "trial.file",
    "experiment.name",
)
"""What ``${...}`` may name beside parameters."""

__all__ = ["BUILTIN", "Budget", "Experiment", "Limits", "Objective", "Scalar", "Value"]
