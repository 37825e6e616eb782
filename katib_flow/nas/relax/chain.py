"""Search by a supernet, as a chain of trials: segments that train it, then what was derived, trained from scratch.

A segment continues its parent's checkpoint and reports how far the search is; so it shows as it goes, can be stopped
and goes on at every segment.
"""

from collections.abc import Iterator
from math import isfinite, nan
from typing import Annotated, Any

from pydantic import Field

from katib_flow.algorithms.registry import Ask, Settings
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial, Value
from katib_flow.models.choices import PROGRESS, choices_taken
from katib_flow.models.optional import optional_layers
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING

Rate = Annotated[float, Field(ge=0)]


class SupernetSettings(Settings):
    """How a supernet is trained; a system has its own defaults."""

    epochs: Count
    """Of the whole search, along which ``lr`` falls to ``lr_end``."""
    segment_epochs: Count | None = None
    """That one trial of the search trains; all of them where it is left out."""
    batch: Count
    """Images of a step of the weights."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate of the weights, at the beginning."""
    lr_end: Rate = 0.001
    """The same, at the end."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of the weights."""
    weight_decay: Rate
    """Of the weights."""
    clip: Annotated[float, Field(gt=0)] = 5.0
    """The largest norm of the gradient of the weights."""


def needs_supernet(experiment: Experiment, name: str, *, skips: bool) -> Iterator[SpecError]:
    """What is missing for a system that trains all architectures at once.

    Args:
        skips: whether it decides on edges that are there or not, too.
    """
    more = ", which vertex an edge reads, or whether it is there" if skips else ""
    slots = f"a space whose slots are all operations of edges{more}"
    need = f"{slots}, such as cell or dense: {name} trains all of them at once"
    if experiment.architecture is None or experiment.architectures is None:
        yield SpecError("architecture", NOTHING, need)
        return
    why = ""
    try:
        flat = experiment.architectures.supernet().flat
        mixed = bool(flat.groups) and (skips or not any(map(optional_layers, flat.edges)))
    except InvalidSpec as invalid:
        mixed, why = False, f" ({invalid.problems[0]})"
    if not mixed:
        yield SpecError("architecture.space", experiment.architecture.space, need + why)


def chained(ask: Ask[Any]) -> list[Suggestion]:
    """The next segment, until one reports that the search is over; then the derived architecture; then nothing.

    A segment that failed is tried again from the one before it. The decisions of a segment's assignment are those that
    the one before it had come to, of the first the first value of each.

    Raises:
        KatibFlowError: a segment did not report how far the search is.
    """
    if not ask.indices or ask.history.open():
        return []
    assert ask.architectures is not None
    segments = [trial for trial in ask.history if trial.suggestion.origin.kind is Kind.SEGMENT]
    ended = [trial for trial in segments if _has_ended(trial, ask.objective.metric)]
    if ended and PROGRESS not in ended[-1].observations:
        need = "the trial's function has to be one that trains supernets, as katib_flow.nas:train does"
        raise KatibFlowError(f"trial {ended[-1].id}: reported no {PROGRESS}; {need}")
    last = ended[-1] if ended else None
    before = last.assignment if last else ask.space.draw(ask.rng(0))
    decisions = come_to(ask, last) if last else ask.architectures.decode([0] * len(ask.architectures.slots))
    assignment, index = {**before, **decisions}, ask.indices[0]
    if last is None or last.observations[PROGRESS] < 1:
        topology = ask.architectures.supernet().to_dict()
        parent = None if last is None else last.index
        origin = Origin(Kind.SEGMENT, () if last is None else (last.index,))
        return [Suggestion(index, assignment, parent=parent, topology=topology, origin=origin)]
    derived = Origin(Kind.GENERATE, (last.index,))
    if any(trial.state.over for trial in ask.history if trial.suggestion.origin == derived):
        return []
    return [Suggestion(index, assignment, origin=derived)]


def _has_ended(segment: Trial, metric: str) -> bool:
    """Whether a segment came to its end with sound weights, which a finite value says."""
    return segment.state.over and not segment.state.failure and isfinite(segment.observations.get(metric, nan))


def come_to(ask: Ask[Any], trial: Trial) -> dict[str, Value]:
    """The decisions that a segment has come to, by the choices that it reported.

    Raises:
        KatibFlowError: it reported none.
    """
    assert ask.architectures is not None
    decisions: dict[str, Value] = {}
    for slot, position in choices_taken(ask.architectures.supernet(), trial.observations).items():
        parameter = ask.architectures.parameters[slot]
        if position is None:
            raise KatibFlowError(
                f"trial {trial.id}: of slot {slot}, none of {parameter.size} choices was reported as taken"
            )
        decisions[slot] = parameter.nth(position)
    return decisions
