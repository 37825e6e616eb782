"""A recurrent controller as an algorithm: it decides on assignments slot by slot, and learns from batches of trials.

What systems with a controller differ in, its shape, its rule and its reward, they say themselves. What they share:
parameters that are no decisions of an architecture are decided alike; of those with many values the controller decides
on one of 16 parts of their range, and chance inside it. It learns in order of index, from all batches that are over, so
that nobody waits. What it decides on again is not trained again: it counts with the result it had
(``Origin.repeats``); a controller that has made up its mind is given a neighbour of what it decided on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.learning import Learner
from katib_flow.algorithms.registry import Ask
from katib_flow.errors import SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial
from katib_flow.nas.door import Later
from katib_flow.nas.settings import SystemSettings
from katib_flow.nas.tokens import Sample, choices, decided, encoded
from katib_flow.spaces import architectures, search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.space import Assignment

if TYPE_CHECKING:
    from katib_flow.nas import controller
else:
    controller = Later("katib_flow.nas.controller")

REPEATS = 16  # of what is known, before the controller is taken to have made up its mind
Results = NDArray[np.float64]
"""By trial index and objective, shape (trial, objective): the losses, NaN where there is none or it is too late."""
Reward = Callable[[Any, Results, Sequence[int]], Sequence[float]]
"""``reward(settings, results, members)``: of some trials by index, from what all up to the last of the batch gave."""


class Policy(Protocol):
    """Decides on all slots, some time over."""

    sample: Sample


def objective_rewards(settings: Any, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The objective of some trials, the higher the better; for one that failed, the lowest of all so far."""
    values = -results[:, 0]
    lowest = float(np.nanmin(values)) if not np.isnan(values).all() else 0.0
    return np.where(np.isnan(values[list(members)]), lowest, values[list(members)]).tolist()


def shares(results: Results, members: Sequence[int]) -> NDArray[np.float64]:
    """Of some trials, the share of all that were no better, whatever the objective; NaN for one that failed."""
    losses = results[:, 0]
    ranked, mine = np.sort(losses[~np.isnan(losses)]), losses[list(members)]
    return np.where(np.isnan(mine), np.nan, 1 - np.searchsorted(ranked, mine, side="left") / max(1, len(ranked)))


class LearningSettings(SystemSettings):
    """How a policy learns from rewards; a system has its own defaults."""

    batch: Annotated[int, Field(ge=1)]
    """Trials from which the controller learns at once."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate of Adam."""
    units: Annotated[int, Field(ge=1, le=512)]
    """Of each layer of the LSTM."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)]
    """Of the moving mean of the rewards."""
    entropy: Annotated[float, Field(ge=0)]
    """Weight of the entropy of the decisions in what the controller maximises; more explores longer."""


class PolicySettings(LearningSettings):
    """How a controller learns; a system has its own defaults."""

    layers: Annotated[int, Field(ge=1, le=4)]
    """Of the LSTM."""


class ProximalSettings(PolicySettings):
    """How a controller of one layer learns by proximal policy optimisation, as Zoph et al., CVPR 2018, have it."""

    paper: ClassVar = {"batch": 20, "lr": 3.5e-4}
    batch: Annotated[int, Field(ge=1)] = 5
    lr: Annotated[float, Field(gt=0)] = 0.01
    units: Annotated[int, Field(ge=1, le=512)] = 100
    layers: Annotated[int, Field(ge=1, le=4)] = 1
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    entropy: Annotated[float, Field(ge=0)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 0.2
    """How far from 1 the ratio of a decision's new and old probability is worth going."""
    updates: Annotated[int, Field(ge=1)] = 4
    """Steps of the controller along a batch."""


def proximal(settings: ProximalSettings) -> controller.PPO:
    """The rule that such settings describe."""
    return controller.PPO(settings.updates, settings.clip)


def needs_slots(experiment: Experiment, space: str, *, architecture: bool = True) -> Iterator[SpecError]:
    """What is missing for a system that decides on slots.

    Args:
        space: one that has them, for the message.
        architecture: whether it searches nothing else.
    """
    need = f"a space with slots to decide on, such as {space}"
    searched = architectures(experiment)
    if experiment.architecture is None or searched is None:
        if architecture:
            yield SpecError("architecture", NOTHING, need)
    elif not (searched.parameters if architecture else search_space(experiment).parameters):
        yield SpecError("architecture.space", experiment.architecture.space, need)


@dataclass(frozen=True)
class Batch:
    """What an update is made of: decisions, shape (sequence, slot), and their rewards."""

    tokens: tuple[tuple[int, ...], ...]
    rewards: tuple[float, ...]


@dataclass
class TokenPolicy(Learner[PolicySettings, Batch, "controller.Controller"]):
    """A controller that learns from batches, one lesson a batch.

    Attributes:
        rule: what it learns by, of its settings.
        spread: its first weights are drawn evenly from -spread to spread.
    """

    reward: Reward
    rule: Callable[[Any], controller.Rule]
    spread: float

    def lessons(self, ask: Ask[PolicySettings]) -> list[Batch]:
        return list(batches(ask, self.reward))

    def begin(self, ask: Ask[PolicySettings]) -> controller.Controller:
        settings = ask.settings
        counts = tuple(choices(parameter) for parameter in ask.space.parameters.values())
        shape = controller.Shape(counts, settings.units, settings.layers, self.spread)
        rule = self.rule(settings)
        teaching = controller.Teaching(settings.lr, settings.baseline_decay, rule, settings.entropy)
        return controller.Controller(shape, teaching, ask.seed)

    def learn(
        self, ask: Ask[PolicySettings], known: controller.Controller, lesson: Batch, number: int
    ) -> controller.Controller:
        known.learn(np.array(lesson.tokens), np.array(lesson.rewards))
        return known

    def pack(self, known: controller.Controller) -> bytes:
        return controller.packed(known)

    def unpack(self, ask: Ask[PolicySettings], content: bytes) -> controller.Controller:
        return controller.unpacked(self.begin(ask), content)


def proposed(ask: Ask[Any], taught: Policy) -> list[Suggestion]:
    """What a policy decides on; fewer than asked for where the space is used up."""
    known = Known.from_ask(ask)
    return known.suggestions(ask.indices, lambda index: _decided(ask, index, taught, known))


def _decided(ask: Ask[Any], index: int, taught: Policy, known: Known) -> Suggestion | None:
    """What the controller decides on first that is not known, else a neighbour of it; None in a space used up."""
    rng, repeats = ask.rng(index), list[int]()

    def proposals() -> Iterator[tuple[Assignment, Origin]]:
        assignment: Assignment = {}
        for assignment in decided(ask.space, taught.sample, rng, REPEATS):
            yield assignment, Origin()
            repeats.append(known.trial(assignment))
        for _ in range(REPEATS):
            neighbour = Origin(Kind.MODIFY, (known.trial(assignment),))
            assignment = ask.space.mutate(assignment, rng)
            yield assignment, neighbour

    if found := known.first(proposals()):
        return Suggestion(index, found[0], origin=replace(found[1], repeats=tuple(repeats)))
    drawn = known.drawn(rng)
    return None if drawn is None else Suggestion(index, drawn, origin=Origin(repeats=tuple(repeats)))


# what the controller learns from


def batches(ask: Ask[Any], reward: Reward) -> Iterator[Batch]:
    """The batches that are over, the earliest first."""
    tokens = {trial.index: encoded(ask.space, trial.assignment) for trial in proposed_trials(ask)}
    for fresh, seen in ended_batches(ask):
        repeated = [index for trial in fresh for index in trial.suggestion.origin.repeats if index in tokens]
        members = [*(trial.index for trial in fresh), *repeated]
        rewards = tuple(float(value) for value in reward(ask.settings, seen, members))
        yield Batch(tuple(tokens[index] for index in members), rewards)


def ended_batches(ask: Ask[Any]) -> Iterator[tuple[Sequence[Trial], Results]]:
    """The trials of each batch that is over, the earliest first, and what all up to the last of them gave."""
    mine, results, size = proposed_trials(ask), results_of(ask), ask.settings.batch
    for first in range(0, len(mine) - size + 1, size):
        fresh = mine[first : first + size]
        if not all(trial.state.over for trial in fresh):
            return
        yield fresh, np.where(np.arange(len(results))[:, None] <= fresh[-1].index, results, np.nan)


def proposed_trials(ask: Ask[Any]) -> list[Trial]:
    """Those that were not named by the user."""
    return [trial for trial in ask.history if trial.suggestion.origin.kind is not Kind.GIVEN]


def results_of(ask: Ask[Any]) -> Results:
    """Of all trials."""
    objectives = ask.experiment.objective
    results = np.full((ask.history.next_index, len(objectives)), np.nan)
    for trial in ask.history:
        for column, objective in enumerate(objectives):
            if (value := trial.observed(objective.metric)) is not None:
                results[trial.index, column] = objective.loss(value)
    return results
