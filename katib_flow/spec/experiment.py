"""The spec as one frozen model: YAML and Python give the same object, and every rule is checked here, once."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Trial
from katib_flow.markup import facts, table
from katib_flow.spec.argo import Argo
from katib_flow.spec.mending import VARIANTS, Mended, agreed, mended, without_shadows
from katib_flow.spec.model import Model, Scalar, Text, shorthand, unwritable
from katib_flow.spec.parameters import AnyParameter, FloatParameter
from katib_flow.spec.problems import matching, problem, problems, spec_errors
from katib_flow.spec.rules import RULES, Rule, broken, broken_so_far
from katib_flow.spec.sections import (
    AlgorithmSpec,
    Architecture,
    Budget,
    EarlyStopping,
    Limits,
    Metrics,
    Objective,
    Tracking,
)
from katib_flow.spec.template import TrialTemplate
from katib_flow.spec.trainer import with_trainer

Name = Annotated[
    str,
    matching(
        r"(?!.{46})[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "at most 45 lower-case letters and digits, with '-' between them, such as digits-mlp",
    ),
]


def _one_or_more(value: Any) -> Any:
    if not isinstance(value, Mapping | Objective | list | tuple):
        raise problem("", value, "a metric and a direction, such as {metric: accuracy, direction: maximize}, or a list")
    return [value] if isinstance(value, Mapping | Objective) else value


def _one_text_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _typed(parameters: dict[str, AnyParameter]) -> dict[str, AnyParameter]:
    """Convert integers in conditions on a float parameter: 1 means 1.0 there."""

    def typed(parent: str, values: Iterable[Any]) -> tuple[Any, ...]:
        real = isinstance(parameters.get(parent), FloatParameter)
        return tuple(float(value) if real and type(value) is int else value for value in values)

    whens = {
        name: {parent: typed(parent, values) for parent, values in parameter.when.items()}
        for name, parameter in parameters.items()
    }
    return {name: parameter.model_copy(update={"when": whens[name]}) for name, parameter in parameters.items()}


def _of_sections(error: ValidationError) -> bool:
    """True if the mistakes are inside sections, rather than between them."""
    return any(item["loc"] for item in error.errors(include_url=False, include_context=False, include_input=False))


def _sections_of(problems: Iterable[SpecError]) -> set[str]:
    """The sections that contain mistakes."""
    return {re.split(r"[.\[]", problem.where)[0] for problem in problems}


def _names_what_is_mended(problem: SpecError, copy: Mended) -> bool:
    """True if a mistake is about the name of a metric, or the values of a parameter, that stand-ins have replaced."""
    if problem.where.startswith("metrics.strategy"):
        return copy.renames_metrics()
    named = re.match(r"(?:initial\[\d+\]|parameters\.(?:.*)\.when)\.(.+)", problem.where)
    return bool(named) and copy.has_below(("parameters", named[1]))


class Experiment(Model):
    """One search: its objective, search space, algorithm, trial template and limits.

    Rules that other packages know, such as those for the settings of an algorithm or for ``architecture``, are passed
    to ``parse``.

    Attributes:
        name: at most 45 lower-case letters, digits and dashes.
        description: a text for people.
        objective: the metric to optimise; a list of them searches for the Pareto front.
        additional_metrics: names of other metrics to record.
        parameters: the parameters to search, by name.
        architecture: a neural network to search, instead of parameters or together with them.
        initial: points to try first.
        warm_start: names or run ids of earlier experiments to learn from.
        algorithm: the search algorithm.
        budget: the resource that a trial may spend, for algorithms that assign budgets.
        early_stopping: the rule that ends hopeless trials.
        limits: bounds on the experiment and on its trials.
        trial: the way to run a trial; with an ``architecture``, the built-in trainer by default.
        metrics: the source of the metrics.
        tracking: the MLflow store.
        argo: the pods on a cluster.
    """

    name: Name
    description: str = ""
    objective: Annotated[tuple[Objective, ...], Field(min_length=1), BeforeValidator(_one_or_more)]
    additional_metrics: tuple[Text, ...] = ()
    parameters: Annotated[dict[str, AnyParameter], AfterValidator(_typed)] = {}
    architecture: Annotated[Architecture, shorthand("space")] | None = None
    initial: tuple[dict[str, Scalar], ...] = ()
    warm_start: Annotated[tuple[Text, ...], BeforeValidator(_one_text_or_more)] = ()
    algorithm: Annotated[AlgorithmSpec, shorthand("name")] = AlgorithmSpec()
    budget: Budget | None = None
    early_stopping: Annotated[EarlyStopping, shorthand("name")] | None = None
    limits: Limits = Limits()
    trial: TrialTemplate
    metrics: Metrics = Metrics()
    tracking: Tracking = Tracking()
    argo: Argo = Argo()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The JSON schema, including the short forms of sections."""
        result = handler.resolve_ref_schema(handler(schema))
        sections = result["properties"]
        for name in ("architecture", "algorithm", "early_stopping"):
            sections[name] = {"anyOf": [{"type": "string"}, sections[name]]}
        sections["objective"] = {"anyOf": [sections["objective"]["items"], sections["objective"]]}
        result["required"].remove("trial")
        result["anyOf"] = [{"required": ["trial"]}, {"required": ["architecture"]}]
        return result

    _trained = model_validator(mode="before")(with_trainer)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if errors := list(broken(self, RULES)):
            raise problems(errors)
        return self

    @cached_property
    def base(self) -> Path | None:
        """The directory of the spec file, in which relative paths are resolved first; it does not affect equality.

        None for an experiment that was built in Python or read from a store.
        """
        return None

    def based_on(self, directory: Path | None) -> Self:
        """The same experiment, as if it had been read from a file in a directory."""
        copy = self.model_copy()
        vars(copy)["base"] = directory
        return copy

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows: what is searched, and how."""
        algorithm = self.algorithm
        known = {
            "description": self.description,
            "objective": [f"{objective.direction} {objective.metric}" for objective in self.objective],
            "algorithm": f"{algorithm.name}, seed {algorithm.seed}",
            "architecture": self.architecture.space if self.architecture else None,
            "limits": {name: limit for name, limit in self.limits.model_dump().items() if limit is not None},
            "trial": f"{self.trial.kind} {getattr(self.trial, self.trial.kind)}",
        }
        parameters = [
            {"parameter": name, "type": parameter.type, **parameter.model_dump(by_alias=True, exclude_defaults=True)}
            for name, parameter in self.parameters.items()
        ]
        return facts(f"experiment {self.name}", known) + (table("parameters", parameters) if parameters else "")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of the objectives, then the additional ones."""
        return (*(objective.metric for objective in self.objective), *self.additional_metrics)

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The best trial by the first objective, the earliest of equals; None if no trial has a finite value."""
        return next(iter(self.ranked(trials)), None)

    def ranked(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials with a finite value of the first objective, the best first, earlier before later equals."""
        first = self.objective[0]
        scored = [
            (first.loss(value), trial.index, trial)
            for trial in trials
            if (value := trial.observed(first.metric)) is not None
        ]
        return [trial for _, _, trial in sorted(scored, key=lambda entry: entry[:2])]

    @classmethod
    def parse(cls, data: Any, source: str = "", further: Iterable[Rule] = ()) -> "Experiment":
        """Build an experiment from plain data, such as parsed YAML.

        Args:
            source: the name of the data in messages, such as the path of its file.
            further: rules to check in addition to those of the spec.

        Raises:
            InvalidSpec: with every mistake in the data.
        """
        if strange := unwritable(data):
            raise InvalidSpec(source, strange)
        try:
            experiment = cls.model_validate(data)
        except ValidationError as error:
            raise InvalidSpec(source, cls._mistakes(error, data, further)) from None
        if errors := list(broken(experiment, further)):
            raise InvalidSpec(source, errors)
        return experiment

    @classmethod
    def _mistakes(cls, error: ValidationError, data: Any, further: Iterable[Rule]) -> list[SpecError]:
        first = without_shadows(spec_errors(error, cls, data))
        if not isinstance(data, Mapping):
            return first
        if not _of_sections(error):  # the rules between sections have been checked
            return first + list(broken_so_far(cls._without(_sections_of(first), with_trainer(data)), further))
        rules = tuple(further)
        one, other = (cls._judged(data, first, rules, variant) for variant in VARIANTS)
        return agreed(one, other)

    @classmethod
    def _judged(cls, data: Any, first: Sequence[SpecError], rules: Iterable[Rule], variant: int) -> list[SpecError]:
        """All mistakes that are visible once stand-ins replace what is wrong inside sections."""
        copy = mended(data, cls, cls._alone, first, variant)
        unsound, sound = {str(path[0]) for path in copy.whole() if path}, with_trainer(copy.data)
        problems = list(broken_so_far(cls._without(unsound, sound), RULES))
        unsound |= _sections_of(problems)
        problems += broken_so_far(cls._without(unsound, sound), rules)
        of_rules = [
            copy.as_written(problem)
            for problem in problems
            if not copy.is_consequence(problem) and not _names_what_is_mended(problem, copy)
        ]
        return [*copy.problems, *of_rules]

    @classmethod
    def _alone(cls, data: Any) -> list[SpecError]:
        """The mistakes inside sections, leaving out the rules between them."""
        try:
            cls.model_validate(data)
        except ValidationError as error:
            return spec_errors(error, cls, data) if _of_sections(error) else []
        return []

    @classmethod
    def _without(cls, unsound: Collection[str], data: Mapping[str, Any]) -> "Experiment":
        """A partial experiment that lacks the unsound sections."""
        experiment = cls.model_construct()
        sections = vars(experiment)
        for name, kind in get_type_hints(cls, include_extras=True).items():
            if name in unsound:
                sections.pop(name, None)
            elif name in data:
                sections[name] = TypeAdapter[Any](kind).validate_python(data[name])
        return experiment

    def to_dict(self) -> dict[str, Any]:
        """Plain data that parses to an equal experiment, without defaults."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name, parameter in self.parameters.items():
            data["parameters"][name] = {"type": parameter.type, **data["parameters"][name]}
        if len(self.objective) == 1:
            data["objective"] = data["objective"][0]
        return data
