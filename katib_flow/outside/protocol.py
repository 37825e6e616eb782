"""The protocol of a program that suggests, version 1: it reads one JSON object and writes another.

It reads a request from its standard input, writes a reply to its standard output, and ends with exit code 0. Its
standard error is shown if it fails. ``schema`` returns the JSON schema of both.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from katib_flow.errors import KatibFlowError, written_out
from katib_flow.history import History, Suggestion, Trial, Value
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Scalar
from katib_flow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, OrdinalParameter, Parameter
from katib_flow.spec.problems import spec_errors
from katib_flow.spec.space import SearchSpace
from katib_flow.wording import counted

VERSION = 1
MOST_SUGGESTED = 100_000  # suggestions per request; a reply is checked in memory


class Message(BaseModel):
    """A part of a request or a reply."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PastTrial(Message):
    """A trial that was suggested before."""

    index: int = Field(description="number of the trial, from 0")
    state: str = Field(description="pending, running, succeeded, early_stopped, failed, metrics_unavailable or killed")
    assignment: dict[str, Any] = Field(description="the value of each active parameter")
    observations: dict[str, float] = Field(description="the value of each metric; empty until it has reported one")
    budget: float | None = Field(description="the budget of the trial; null if the experiment has no budget")
    parent: int | None = Field(description="index of the trial that it continues from; null if it starts anew")


class Request(Message):
    """The object that the program reads."""

    version: Literal[1] = VERSION
    experiment: dict[str, Any] = Field(description="the spec")
    parameters: dict[str, Any] = Field(description="the search space, including the decisions of an architecture")
    settings: dict[str, Any] = Field(description="algorithm.settings of the spec")
    seed: int = Field(description="algorithm.seed of the spec")
    indices: list[int] = Field(description="the indices of the trials to suggest, ascending")
    trials: list[PastTrial] = Field(description="all trials so far, ordered by index")
    earlier: list[PastTrial] = Field(description="trials of the experiments named by warm_start")
    state: Any = Field(description="the state in the program's previous reply; null at first, or if it was lost")


class Proposed(Message):
    """A trial to run."""

    assignment: dict[str, Scalar] = Field(description="a value for each active parameter, and for no other")
    budget: Annotated[float, Field(gt=0)] | None = Field(None, description="the budget of the trial")
    parent: int | None = Field(None, description="index of the trial whose checkpoint it continues from")


class Reply(Message):
    """The object that the program writes."""

    version: Literal[1] = VERSION
    suggestions: list[Proposed] = Field(
        description="trials for the first of the requested indices; fewer to wait for running trials, or to end"
    )
    state: Any = Field(None, description="any data that the program wants to read in the next request")


def schema() -> dict[str, Any]:
    """The JSON schemas of the request and the reply."""
    return {"version": VERSION, "request": Request.model_json_schema(), "reply": Reply.model_json_schema()}


def request(
    experiment: Experiment, space: SearchSpace, history: History, indices: range, earlier: History, state: Any
) -> bytes:
    """A request for suggestions, as a line of JSON.

    Args:
        indices: the indices of the trials to suggest.
        earlier: the trials of the experiments that ``warm_start`` names.
        state: the state in the program's previous reply.
    """
    parameters = {
        name: parameter.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"type": parameter.type}
        for name, parameter in space.parameters.items()
        if isinstance(parameter, FloatParameter | IntParameter | CategoricalParameter | OrdinalParameter)
    }
    asked = Request(
        experiment=experiment.to_dict(),
        parameters=parameters,
        settings=dict(experiment.algorithm.settings),
        seed=experiment.algorithm.seed,
        indices=list(indices),
        trials=[_past(trial) for trial in history],
        earlier=[_past(trial) for trial in earlier],
        state=state,
    )
    return json.dumps(asked.model_dump(mode="json")).encode() + b"\n"


def _past(trial: Trial) -> PastTrial:
    finite = {name: value for name in trial.observations if (value := trial.observed(name)) is not None}
    return PastTrial(
        index=trial.index,
        state=str(trial.state),
        assignment=dict(trial.assignment),
        observations=finite,
        budget=trial.suggestion.budget,
        parent=trial.suggestion.parent,
    )


def read_reply(content: bytes) -> Reply:
    """Parse the reply of a program.

    Raises:
        KatibFlowError: the content is not a valid reply.
    """
    try:
        data = json.loads(content, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        begin = content[:80].decode(errors="replace").strip()
        shown = f"{begin!r}" if begin else "nothing"
        raise KatibFlowError(f"wrote {shown} to its standard output, need one JSON object ({error})") from None
    try:
        return Reply.model_validate(data)
    except ValidationError as error:
        first, *more = spec_errors(error, Reply, data)
        rest = f"; {counted(len(more), 'more mistake')}" if more else ""
        raise KatibFlowError(f"wrote an invalid reply: {first}{rest}") from None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def suggestions(
    proposals: Iterable[Proposed], space: SearchSpace, history: History, indices: range
) -> list[Suggestion]:
    """The suggestions in a reply, for the first of the requested indices.

    Raises:
        KatibFlowError: an assignment is not in the search space, a parent is not an earlier trial, or there are more
            suggestions than requested.
    """
    proposals = list(proposals)
    if len(proposals) > len(indices):
        raise KatibFlowError(f"suggested {counted(len(proposals), 'trial')}, but {len(indices)} requested")
    return [
        _checked(proposed, f"suggestions[{position}]", space, history, index)
        for position, (proposed, index) in enumerate(zip(proposals, indices, strict=False))
    ]


def _checked(proposed: Proposed, where: str, space: SearchSpace, history: History, index: int) -> Suggestion:
    assignment = typed(space, proposed.assignment)
    if wrong := [
        f"{name} {why}" + (f" ({written_out(assignment[name])})" if name in assignment else "")
        for name, why in space.why_not(assignment)
    ]:
        raise KatibFlowError(f"made an invalid suggestion: {where}.assignment: {'; '.join(wrong[:5])}")
    if proposed.parent is not None and all(trial.index != proposed.parent for trial in history):
        need = "the index of an earlier trial, or null"
        raise KatibFlowError(f"made an invalid suggestion: {where}.parent: found {proposed.parent}, need {need}")
    return Suggestion(index, assignment, budget=proposed.budget, parent=proposed.parent)


def typed(space: SearchSpace, assignment: Mapping[str, Value]) -> dict[str, Value]:
    """Convert an assignment to the types and order of the parameters, because JSON may write a float as 1."""
    given = {name: parameter for name, parameter in space.parameters.items() if name in assignment}
    known = {name: _typed(parameter, assignment[name]) for name, parameter in given.items()}
    return known | {name: value for name, value in assignment.items() if name not in known}


def _typed(parameter: Parameter, value: Value) -> Value:
    value = parameter.typed(value)
    return parameter.nearest(value) if isinstance(parameter, FloatParameter) and isinstance(value, float) else value
