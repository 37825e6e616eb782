"""Search by a supernet, as a chain of trials: segments that train it, then what was derived, trained from scratch.

A segment continues its parent's checkpoint and reports how far the search is; so it shows as it goes, can be stopped
and goes on at every segment.
"""

from collections.abc import Iterator
from math import isfinite, nan
from typing import Annotated, Any

from pydantic import Field

from katib_flow.algorithms.registry import Ask
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.history import Kind, Origin, State, Suggestion, Trial, Value
from katib_flow.models.choices import PROGRESS, choice_metric, decisions_taken
from katib_flow.models.optional import optional_layers
from katib_flow.models.topology import Topology
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING

Rate = Annotated[float, Field(ge=0)]


class SupernetSettings(SystemSettings):
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
    retrain: Count = 6
    """Networks that the search came to, the best first, of which each is trained from scratch in a trial of its own."""
    max_parameters: Count | None = None
    """The most that a network may have which the search comes to."""
    max_flops: Count | None = None
    """The same, of floating-point operations for one image."""


class WarmUpSettings(SupernetSettings):
    """How a supernet is trained whose architecture is not looked at before its weights are worth something."""

    warm_up: Annotated[int, Field(ge=0)] | None = None
    """Epochs that train the weights alone, before the architecture is learnt; a third of ``epochs`` without it."""

    @property
    def warm_up_epochs(self) -> int:
        return self.epochs // 3 if self.warm_up is None else self.warm_up


def needs_supernet(
    experiment: Experiment, name: str, *, skips: bool, such: str = "cell or dense"
) -> Iterator[SpecError]:
    """What is missing for a system that trains all architectures at once.

    Args:
        skips: whether it decides on edges that are there or not, too.
        such: spaces by name that it searches.
    """
    more = ", which vertex an edge reads, or whether it is there" if skips else ""
    slots = f"a space whose slots are all operations of edges{more}"
    need = f"{slots}, such as {such}: {name} trains all of them at once"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
        return
    why = ""
    if space.input.tokens is not None:
        need = f"a space of networks for images, such as {such}: {name} trains a supernet on images"
        yield SpecError("architecture.space", experiment.architecture.space, need)
        return
    try:
        flat = space.supernet().flat
        mixed = bool(flat.groups) and (skips or not any(map(optional_layers, flat.edges)))
    except InvalidSpec as invalid:
        mixed, why = False, f" ({invalid.problems[0]})"
    if not mixed:
        yield SpecError("architecture.space", experiment.architecture.space, need + why)


def chained(ask: Ask[Any], *, norm: bool = False) -> list[Suggestion]:
    """The next segment, until one reports that the search is over; then the networks that it came to; then nothing.

    A segment that failed is tried again from the one before it. The decisions of a segment's assignment are those that
    the one before it had come to, of the first the first value of each.

    Args:
        norm: whether all choices of an edge are normalised in the supernet.

    Raises:
        KatibFlowError: a segment did not report how far the search is.
    """
    segments = [trial for trial in ask.history if trial.suggestion.origin.kind is Kind.SEGMENT]
    if not ask.indices or any(not trial.state.final for trial in segments):
        return []
    assert ask.architectures is not None
    ended = [trial for trial in segments if _has_ended(trial, ask.objective.metric)]
    if ended and PROGRESS not in ended[-1].observations:
        need = "the trial's function has to be one that trains supernets, as katib_flow.nas:train does"
        raise KatibFlowError(f"trial {ended[-1].id}: reported no {PROGRESS}; {need}")
    last = ended[-1] if ended else None
    before = last.assignment if last else ask.space.draw(ask.rng(0))
    if last and last.observations[PROGRESS] >= 1:
        return _from_scratch(ask, last)
    first = ask.architectures.decode([0] * len(ask.architectures.slots))
    decisions = come_to(ask, last)[0] if last else first
    supernet = ask.architectures.supernet()
    topology = (normalised(supernet) if norm else supernet).to_dict()
    parent = None if last is None else last.index
    origin = Origin(Kind.SEGMENT, () if last is None else (last.index,))
    return [Suggestion(ask.indices[0], {**before, **decisions}, parent=parent, topology=topology, origin=origin)]


def _has_ended(segment: Trial, metric: str) -> bool:
    """Whether a segment came to its end with sound weights, which a finite value says."""
    return segment.state.over and not segment.state.failure and isfinite(segment.observations.get(metric, nan))


def _from_scratch(ask: Ask[Any], last: Trial) -> list[Suggestion]:
    """The networks that the last segment came to and no trial has trained yet; one that failed is not tried again."""
    origin = Origin(Kind.GENERATE, (last.index,))
    rivals = [trial for trial in ask.history if trial.suggestion.origin == origin and trial.state is not State.KILLED]
    tried = [trial.assignment for trial in rivals]
    wanted = [{**last.assignment, **decisions} for decisions in come_to(ask, last)[: ask.settings.retrain]]
    left = [assignment for assignment in wanted if assignment not in tried]
    return [Suggestion(index, each, origin=origin) for index, each in zip(ask.indices, left, strict=False)]


def come_to(ask: Ask[Any], trial: Trial) -> list[dict[str, Value]]:
    """The decisions of the networks that a segment has come to, the best first.

    Raises:
        KatibFlowError: it did not report the best.
    """
    assert ask.architectures is not None
    if networks := decisions_taken(ask.architectures, trial):
        return networks
    counts = {choice_metric(slot): len(names) for slot, names in ask.architectures.supernet().flat.groups.items()}
    wrong = next(metric for metric, count in counts.items() if trial.observations.get(metric) not in range(count))
    found, need = trial.observations.get(wrong, "nothing"), f"the position of one of {counts[wrong]} choices"
    raise KatibFlowError(f"trial {trial.id}: {wrong}: found {found}, need {need}")


def normalised(supernet: Topology) -> Topology:
    """A supernet that normalises what every choice of an edge gives, so that none weighs more for its scale alone."""
    data = supernet.to_dict()
    mixed = [edge for graph in data["graphs"].values() for edge in graph["edges"] if edge["op"] == "mixed"]
    for edge in mixed:
        edge["params"] = {**edge["params"], "norm": True}
    return Topology.parse(data)
