"""What a program that suggests reads and writes: one JSON object each, version 1.

It reads a request on its standard input, writes a reply to its standard output, and ends with exit code 0. What it
writes to its standard error is shown where it fails. ``schema`` is the JSON Schema of both.
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

VERSION = 1
MOST_SUGGESTED = 100_000  # asked for at once; an answer is checked in memory


class Message(BaseModel):
    """A part of a request or a reply."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PastTrial(Message):
    """A trial that was suggested before."""

    index: int = Field(description="its number, from 0")
    state: str = Field(description="pending, running, succeeded, early_stopped, failed, metrics_unavailable or killed")
    assignment: dict[str, Any] = Field(description="the value of each active parameter")
    observations: dict[str, float] = Field(description="the value of each metric; empty while there is none")
    budget: float | None = Field(description="what it may spend; null where the experiment has no budget")
    parent: int | None = Field(description="the index of the trial that it continues; null where there is none")


class Request(Message):
    """What the program reads."""

    version: Literal[1] = VERSION
    experiment: dict[str, Any] = Field(description="the spec")
    parameters: dict[str, Any] = Field(description="the search space, decisions about an architecture among it")
    settings: dict[str, Any] = Field(description="algorithm.settings of the spec")
    seed: int = Field(description="algorithm.seed of the spec")
    indices: list[int] = Field(description="the numbers of the trials that are wanted, ascending")
    trials: list[PastTrial] = Field(description="all trials so far, by their index")
    earlier: list[PastTrial] = Field(description="trials of the experiments named by warm_start")
    state: Any = Field(description="what the program wrote as its state before; null where it is lost")


class Proposed(Message):
    """A trial to be run."""

    assignment: dict[str, Scalar] = Field(description="a value of each active parameter, and of no other")
    budget: Annotated[float, Field(gt=0)] | None = Field(None, description="what it may spend")
    parent: int | None = Field(None, description="the index of a trial whose checkpoint it continues from")


class Reply(Message):
    """What the program writes."""

    version: Literal[1] = VERSION
    suggestions: list[Proposed] = Field(
        description="for the first of the wanted indices on; fewer where it waits for trials that run, or has no more"
    )
    state: Any = Field(None, description="anything that it wants to read when it is asked again")


def schema() -> dict[str, Any]:
    """The JSON Schema of request and reply."""
    return {"version": VERSION, "request": Request.model_json_schema(), "reply": Reply.model_json_schema()}


def request(
    experiment: Experiment, space: SearchSpace, history: History, indices: range, earlier: History, state: Any
) -> bytes:
    """The request for some trials, as JSON."""
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
    """What a program has written.

    Raises:
        KatibFlowError: it is no reply; the text says what it is.
    """
    try:
        data = json.loads(content, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        begin = content[:80].decode(errors="replace").strip()
        shown = f"{begin!r}" if begin else "nothing"
        raise KatibFlowError(f"wrote {shown} to its standard output, and not one JSON object ({error})") from None
    try:
        return Reply.model_validate(data)
    except ValidationError as error:
        first, *more = spec_errors(error, Reply, data)
        rest = f"; {len(more)} more mistake{'s' * (len(more) != 1)}" if more else ""
        raise KatibFlowError(f"wrote a reply that cannot be taken: {first}{rest}") from None


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def suggestions(
    proposals: Iterable[Proposed], space: SearchSpace, history: History, indices: range
) -> list[Suggestion]:
    """The suggestions of a reply, for the first of the wanted indices on.

    Raises:
        KatibFlowError: one does not lie in the space, or continues from no trial; or there are too many.
    """
    proposals = list(proposals)
    if len(proposals) > len(indices):
        raise KatibFlowError(f"suggested {len(proposals)} trials, and {len(indices)} were asked for")
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
        raise KatibFlowError(f"suggested what cannot be tried: {where}.assignment: {'; '.join(wrong[:5])}")
    if proposed.parent is not None and all(trial.index != proposed.parent for trial in history):
        need = "the index of an earlier trial, or null"
        raise KatibFlowError(f"suggested what cannot be tried: {where}.parent: found {proposed.parent}, need {need}")
    return Suggestion(index, assignment, budget=proposed.budget, parent=proposed.parent)


def typed(space: SearchSpace, assignment: Mapping[str, Value]) -> dict[str, Value]:
    """An assignment with the types that its parameters have, in their order: JSON may write a float as 1."""
    given = {name: parameter for name, parameter in space.parameters.items() if name in assignment}
    known = {name: _typed(parameter, assignment[name]) for name, parameter in given.items()}
    return known | {name: value for name, value in assignment.items() if name not in known}


def _typed(parameter: Parameter, value: Value) -> Value:
    value = parameter.typed(value)
    return parameter.nearest(value) if isinstance(parameter, FloatParameter) and isinstance(value, float) else value
