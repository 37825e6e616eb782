"""The trial template: how a trial is run, and how values reach its arguments.

``arguments`` are constants that are the same for every trial; a function is called with them. ``${name}`` in an
argument is replaced by a value, in place and as data: an argument stays one argument, and no shell interprets it.
``$${`` stands for a literal ``${``. A list item that names an inactive conditional parameter is left out.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from katib_flow.errors import SpecError
from katib_flow.history import Value
from katib_flow.spec.model import NEED_SCALAR, JsonData, Model, PlainData, Text
from katib_flow.spec.problems import NOTHING, matching, problem, problems

BUILTIN = (
    "trial.id",
    "trial.name",
    "trial.namespace",
    "trial.directory",
    "trial.checkpoint_dir",
    "trial.parent_checkpoint_dir",
    "trial.file",
    "trial.model_dir",
    "trial.run_id",
    "tracking.uri",
    "experiment.name",
)
"""The names that ``${...}`` may contain, in addition to parameters and the trial's arguments."""

Resources = dict[Literal["requests", "limits"], dict[str, str | int | float]]
Package = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][^\s]*( *[<>=!~@].*)?", "a requirement for pip install, such as name, name==1.2 or name>=1,<2"
    ),
]
Argument = Annotated[str, matching(r"[^\0]*", "text without the character NUL, which no program can receive")]
Argv = Annotated[tuple[Argument, ...], Field(min_length=1)]
Variables = dict[Annotated[str, matching(r"[^=\0]+", "the name of a variable, without '=' and NUL")], Argument]
_PLACEHOLDER = re.compile(r"\$(\$\{)|\$\{([^{}]*)\}")


Kind = Literal["function", "command", "container", "resource", "template"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Container(Model):
    """A container of any image, which needs neither Python nor katib-flow."""

    image: Text
    command: Argv
    args: tuple[Argument, ...] = ()
    env: Variables = {}
    working_dir: str | None = None
    resources: Resources = {}


_JOB, _OTHER = ("Complete", "Failed"), ("Succeeded", "Failed")


class Resource(Model):
    """Any Kubernetes object, with GJSON conditions on its status, as in Katib.

    Attributes:
        manifest: the object; katib-flow sets its name.
        success_condition, failure_condition: GJSON paths; a condition is met if its result exists and is not null,
            false, 0 or empty. By default the conditions Complete (of a Job), Succeeded and Failed of the object.
        primary_pod_labels: labels that select, of the object's pods, those whose logs contain the metrics.
        primary_container: the container in these pods; by default the one that Kubernetes chooses.
        retain: keep the object when its trial has ended.
    """

    manifest: PlainData
    success_condition: str = ""
    failure_condition: str = ""
    primary_pod_labels: dict[str, str] = {}
    primary_container: str | None = None
    retain: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for key in ("apiVersion", "kind"):
            if not isinstance(self.manifest.get(key), str):
                raise problem(f"manifest.{key}", self.manifest.get(key, NOTHING), f"the {key} of the object, as text")
        if not isinstance(self.manifest.get("metadata", {}), dict):
            raise problem("manifest.metadata", self.manifest["metadata"], "a mapping")
        return self

    @property
    def conditions(self) -> tuple[str, str]:
        """The GJSON conditions of success and of failure, with their defaults."""
        types = _JOB if self.manifest["kind"] == "Job" else _OTHER
        success, failure = (f'status.conditions.#(type=="{type_}")#|#(status=="True")#' for type_ in types)
        return self.success_condition or success, self.failure_condition or failure


class WorkflowTemplateRef(Model):
    """An Argo WorkflowTemplate: a whole pipeline as a trial.

    Attributes:
        arguments: values of the template's parameters, by name.
        primary_pod_labels: labels of the pods whose logs contain the metrics; by default all pods are read.
        retain: keep the Workflow when its trial has ended.
    """

    name: Text
    cluster_scope: bool = False
    arguments: dict[str, str] = {}
    primary_pod_labels: dict[str, str] = {}
    retain: bool = False


class TrialTemplate(Model):
    """One way to run a trial, of the five kinds, and the constants that all trials get."""

    function: Annotated[str, matching(r"\w+(\.\w+)*:\w+(\.\w+)*", "a function as module:name")] | None = None
    command: Argv | None = None
    container: Container | None = None
    resource: Resource | None = None
    template: WorkflowTemplateRef | None = None
    arguments: JsonData = Field(
        default={}, description="constants by name: arguments of a function; elsewhere ${name} is replaced by them"
    )
    env: Variables = Field(default={}, description="environment variables of a function or command")
    code: str | None = Field(
        default=None, description="source code of the function's module, if it is not in the image"
    )
    packages: tuple[Package, ...] = Field(
        default=(), description="requirements that pip installs into the pod before the code is imported"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self._given) != 1:
            raise problem("", " and ".join(self._given) or NOTHING, f"exactly one of {', '.join(KINDS)}")
        if self.env and self.kind not in ("function", "command"):
            raise problem("env", self.env, "no trial.env, which only function and command trials take")
        for key in ("code", "packages"):
            if getattr(self, key) and self.kind != "function":
                raise problem(key, getattr(self, key), f"no {key}, which only function trials take")
        compound = {name: value for name, value in self.arguments.items() if isinstance(value, dict | list)}
        if compound and self.kind != "function":
            need = f"{NEED_SCALAR}, because only function trials take lists and mappings"
            raise problems([SpecError(f"arguments.{name}", value, need) for name, value in compound.items()])
        return self

    @property
    def _given(self) -> list[Kind]:
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    @property
    def kind(self) -> Kind:
        """The kind of trial that is set."""
        return self._given[0]


def placeholders(template: TrialTemplate) -> Iterator[tuple[str, str]]:
    """Each ``${name}`` in a template as a (path, name) pair; constants and code are not searched."""
    yield from placeholders_in(template.model_dump(mode="json", exclude={"arguments", "code"}))


def placeholders_in(data: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each ``${name}`` in the texts of plain data as a (path, name) pair; ``path`` is the path of the data."""
    yield from _walk(data, path)


def _walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield from ((path, match[2]) for match in _PLACEHOLDER.finditer(node) if match[2] is not None)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _walk(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, Sequence):
        for position, value in enumerate(node):
            yield from _walk(value, f"{path}[{position}]")


class Inactive(LookupError):
    """A placeholder names a conditional parameter that is inactive in this trial."""


def substitute(text: str, values: Mapping[str, Value]) -> str:
    """Replace the placeholders in one argument.

    Raises:
        Inactive: a placeholder has no value in this trial.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return match[1]
        if match[2] not in values:
            raise Inactive(match[2])
        return as_text(values[match[2]])

    return _PLACEHOLDER.sub(replace, text)


def substitute_all(arguments: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """Replace the placeholders in arguments, leaving out those that name an inactive parameter."""
    result: list[str] = []
    for argument in arguments:
        try:
            result.append(substitute(argument, values))
        except Inactive:
            continue
    return result


def substitute_env(variables: Mapping[str, str], values: Mapping[str, Value]) -> dict[str, str]:
    """Replace the placeholders in environment variables, leaving out those that name an inactive parameter."""
    result: dict[str, str] = {}
    for name, text in variables.items():
        with contextlib.suppress(Inactive):
            result[name] = substitute(text, values)
    return result


def as_text(value: Any) -> str:
    """A value as a program reads it: text unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
