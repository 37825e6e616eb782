"""Search by a supernet as a chain of trials: segments train it, then the derived networks are trained from scratch.

A segment continues from its parent's checkpoint and reports the progress of the search. Thus the search can be watched,
and stopped and resumed at every segment.
"""

from collections.abc import Iterator
from math import isfinite, nan
from typing import Annotated, Any

from pydantic import Field

from katib_flow.algorithms.registry import Ask
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.history import Kind, Origin, State, Suggestion, Trial, Value
from katib_flow.models.choices import PROGRESS, choice_metric, reported_decisions
from katib_flow.models.optional import optional_layers
from katib_flow.models.topology import Topology
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING
from katib_flow.wording import counted

Rate = Annotated[float, Field(ge=0)]


class SupernetSettings(SystemSettings):
    """Settings for the training of a supernet; every system has its own defaults."""

    epochs: Count
    """Number of epochs of the whole search, over which ``lr`` falls to ``lr_end``."""
    segment_epochs: Count | None = None
    """Number of epochs in one trial of the search; all by default."""
    batch: Count
    """Batch size of the training of the weights."""
    lr: Annotated[float, Field(gt=0)]
    """Initial learning rate of the weights."""
    lr_end: Rate = 0.001
    """Final learning rate of the weights."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the weights."""
    weight_decay: Rate
    """Weight decay of the weights."""
    clip: Annotated[float, Field(gt=0)] = 5.0
    """Largest norm of the gradient of the weights; larger gradients are scaled down."""
    retrain: Count = 6
    """Number of derived networks, the best ones, that are trained from scratch in trials of their own."""
    max_parameters: Count | None = None
    """Largest number of parameters of a derived network."""
    max_flops: Count | None = None
    """Largest number of floating-point operations of a derived network for one image."""


class WarmUpSettings(SupernetSettings):
    """Settings for a search in which only the weights are trained at first."""

    warm_up: Annotated[int, Field(ge=0)] | None = None
    """Number of epochs at the start that train only the weights; by default a third of ``epochs``."""

    @property
    def warm_up_epochs(self) -> int:
        """``warm_up``, or its default."""
        return self.epochs // 3 if self.warm_up is None else self.warm_up


def needs_supernet(
    experiment: Experiment, name: str, *, skips: bool, spaces: str = "cell or dense"
) -> Iterator[SpecError]:
    """Errors in the space of a system that trains all architectures at once.

    Args:
        name: the name of the system.
        skips: True if it also searches whether an edge exists.
        spaces: names of suitable spaces, for the message.
    """
    more = ", which vertex an edge reads, or whether it exists" if skips else ""
    slots = f"a space whose slots are all operations of edges{more}"
    need = f"{slots}, such as {spaces}, because {name} trains all architectures at once"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
        return
    why = ""
    if space.input.tokens is not None:
        need = f"a space of networks for images, such as {spaces}, because {name} trains a supernet on images"
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
    """The next segment, until one reports the end of the search; then the derived networks; then nothing.

    A failed segment is tried again from the one before it. The slots in a segment's assignment have the values that the
    segment before it derived; in the first segment, the first value of each slot.

    Args:
        norm: True if all choices of an edge are normalised in the supernet.

    Raises:
        KatibFlowError: a segment did not report the progress of the search.
    """
    segments = [trial for trial in ask.history if trial.suggestion.origin.kind is Kind.SEGMENT]
    if not ask.indices or any(not trial.state.final for trial in segments):
        return []
    assert ask.architectures is not None
    ended = [trial for trial in segments if _has_ended(trial, ask.objective.metric)]
    if ended and PROGRESS not in ended[-1].observations:
        need = "the trial function must train supernets, as katib_flow.nas:train does"
        raise KatibFlowError(f"trial {ended[-1].id}: {PROGRESS} was not reported; {need}")
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
    """Whether a segment has ended with valid weights, as shown by a finite value of the objective."""
    return segment.state.over and not segment.state.failure and isfinite(segment.observations.get(metric, nan))


def _from_scratch(ask: Ask[Any], last: Trial) -> list[Suggestion]:
    """The derived networks of the last segment that have no trial yet; a failed one is not tried again."""
    origin = Origin(Kind.GENERATE, (last.index,))
    rivals = [trial for trial in ask.history if trial.suggestion.origin == origin and trial.state is not State.KILLED]
    tried = [trial.assignment for trial in rivals]
    wanted = [{**last.assignment, **decisions} for decisions in come_to(ask, last)[: ask.settings.retrain]]
    left = [assignment for assignment in wanted if assignment not in tried]
    return [Suggestion(index, assignment, origin=origin) for index, assignment in zip(ask.indices, left, strict=False)]


def come_to(ask: Ask[Any], trial: Trial) -> list[dict[str, Value]]:
    """The slots' values of the networks that a segment derived, the best first.

    Raises:
        KatibFlowError: the segment did not report the choices of the best network.
    """
    assert ask.architectures is not None
    if networks := reported_decisions(ask.architectures, trial):
        return networks
    counts = {choice_metric(slot): len(names) for slot, names in ask.architectures.supernet().flat.groups.items()}
    wrong = next(metric for metric, count in counts.items() if trial.observations.get(metric) not in range(count))
    value, need = trial.observations.get(wrong, "nothing"), f"the position of one of {counted(counts[wrong], 'choice')}"
    raise KatibFlowError(f"trial {trial.id}: {wrong}: found {value}, need {need}")


def normalised(supernet: Topology) -> Topology:
    """A supernet that normalises the output of every choice, so that their scales do not matter."""
    data = supernet.to_dict()
    mixed = [edge for graph in data["graphs"].values() for edge in graph["edges"] if edge["op"] == "mixed"]
    for edge in mixed:
        edge["params"] = {**edge["params"], "norm": True}
    return Topology.parse(data)
