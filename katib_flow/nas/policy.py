"""A recurrent controller as an algorithm: it chooses assignments slot by slot, and learns from batches of trials.

Systems with a controller differ in its shape, its learning rule and its reward. They have in common: parameters outside
the architecture are chosen in the same way; for a parameter with many values the controller chooses one of 16 parts of
its range, and the value is random within it. The controller learns in the order of the indices from all batches that
have ended, so that no trial has to wait. An assignment that it chooses again is not trained again, but counts with its
result (``Origin.repeats``); a controller that only repeats itself gets a neighbour of its last choice instead.
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

REPEATS = 16  # consecutive known assignments, before neighbours are tried instead
Results = NDArray[np.float64]
"""Losses by trial index, shape (trial, objective); NaN for a trial without a result, or one after the batch."""
Reward = Callable[[Any, Results, Sequence[int]], Sequence[float]]
"""``reward(settings, results, members)``: rewards of some trials, by index, given the results up to their batch."""


class Policy(Protocol):
    """Samples sequences of decisions."""

    sample: Sample


def objective_rewards(settings: Any, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The objective of some trials, higher is better; a failed trial gets the lowest value so far."""
    values = -results[:, 0]
    lowest = float(np.nanmin(values)) if not np.isnan(values).all() else 0.0
    return np.where(np.isnan(values[list(members)]), lowest, values[list(members)]).tolist()


def shares(results: Results, members: Sequence[int]) -> NDArray[np.float64]:
    """The share of all trials that are not better than each of ``members``, from 0 to 1; NaN for a failed trial."""
    losses = results[:, 0]
    ranked, mine = np.sort(losses[~np.isnan(losses)]), losses[list(members)]
    return np.where(np.isnan(mine), np.nan, 1 - np.searchsorted(ranked, mine, side="left") / max(1, len(ranked)))


class LearningSettings(SystemSettings):
    """Settings of a policy that learns from rewards; every system has its own defaults."""

    batch: Annotated[int, Field(ge=1)]
    """Number of trials in a batch, from which the controller learns together."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate of Adam."""
    units: Annotated[int, Field(ge=1, le=512)]
    """Number of units of each layer of the LSTM."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the moving mean of the rewards, which is the baseline."""
    entropy: Annotated[float, Field(ge=0)]
    """Weight of the entropy in the controller's objective; a larger weight means longer exploration."""


class PolicySettings(LearningSettings):
    """Settings of a controller; every system has its own defaults."""

    layers: Annotated[int, Field(ge=1, le=4)]
    """Number of layers of the LSTM."""


class ProximalSettings(PolicySettings):
    """Settings of a one-layer controller with proximal policy optimisation (Zoph et al., CVPR 2018)."""

    paper: ClassVar = {"batch": 20, "lr": 3.5e-4}
    batch: Annotated[int, Field(ge=1)] = 5
    lr: Annotated[float, Field(gt=0)] = 0.01
    units: Annotated[int, Field(ge=1, le=512)] = 100
    layers: Annotated[int, Field(ge=1, le=4)] = 1
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    entropy: Annotated[float, Field(ge=0)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 0.2
    """Largest deviation from 1 of the ratio of new to old probability that is rewarded."""
    updates: Annotated[int, Field(ge=1)] = 4
    """Number of gradient steps on each batch."""


def proximal(settings: ProximalSettings) -> controller.PPO:
    """The learning rule that the settings describe."""
    return controller.PPO(settings.updates, settings.clip)


def needs_slots(experiment: Experiment, space: str, *, architecture: bool = True) -> Iterator[SpecError]:
    """The error of an experiment without slots, for a system that searches slots.

    Args:
        space: the name of a space with slots, for the message.
        architecture: True if the slots must be those of an architecture; False if parameters are enough.
    """
    need = f"a space with slots to search, such as {space}"
    searched = architectures(experiment)
    if experiment.architecture is None or searched is None:
        if architecture:
            yield SpecError("architecture", NOTHING, need)
    elif not (searched.parameters if architecture else search_space(experiment).parameters):
        yield SpecError("architecture.space", experiment.architecture.space, need)


@dataclass(frozen=True)
class Batch:
    """The data of one update: tokens, shape (sequence, slot), and rewards, shape (sequence,)."""

    tokens: tuple[tuple[int, ...], ...]
    rewards: tuple[float, ...]


@dataclass
class TokenPolicy(Learner[PolicySettings, Batch, "controller.Controller"]):
    """A controller that learns from batches of trials, one lesson per batch.

    Attributes:
        reward: the reward of a system.
        rule: gives the learning rule for some settings.
        spread: the initial weights are uniform between -spread and spread.
    """

    reward: Reward
    rule: Callable[[Any], controller.Rule]
    spread: float

    def lessons(self, ask: Ask[PolicySettings]) -> list[Batch]:
        """One lesson for each batch that has ended."""
        return list(batches(ask, self.reward))

    def begin(self, ask: Ask[PolicySettings]) -> controller.Controller:
        """A new controller."""
        settings = ask.settings
        counts = tuple(choices(parameter) for parameter in ask.space.parameters.values())
        shape = controller.Shape(counts, settings.units, settings.layers, self.spread)
        rule = self.rule(settings)
        teaching = controller.Teaching(settings.lr, settings.baseline_decay, rule, settings.entropy)
        return controller.Controller(shape, teaching, ask.seed)

    def learn(
        self, ask: Ask[PolicySettings], known: controller.Controller, lesson: Batch, number: int
    ) -> controller.Controller:
        """Update the controller in place."""
        known.learn(np.array(lesson.tokens), np.array(lesson.rewards))
        return known

    def pack(self, known: controller.Controller) -> bytes:
        """The state of the controller as safetensors."""
        return controller.packed(known)

    def unpack(self, ask: Ask[PolicySettings], content: bytes) -> controller.Controller:
        """A controller with a packed state."""
        return controller.unpacked(self.begin(ask), content)


def proposed(ask: Ask[Any], taught: Policy) -> list[Suggestion]:
    """The suggestions of a policy; fewer than requested if the space is used up."""
    known = Known.from_ask(ask)
    return known.suggestions(ask.indices, lambda index: _decided(ask, index, taught, known))


def _decided(ask: Ask[Any], index: int, taught: Policy, known: Known) -> Suggestion | None:
    """The first new assignment of the policy, else a neighbour of a known one; None if the space is used up."""
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

    if proposal := known.first(proposals()):
        return Suggestion(index, proposal[0], origin=replace(proposal[1], repeats=tuple(repeats)))
    drawn = known.drawn(rng)
    return None if drawn is None else Suggestion(index, drawn, origin=Origin(repeats=tuple(repeats)))


# lessons


def batches(ask: Ask[Any], reward: Reward) -> Iterator[Batch]:
    """The batches that have ended, the earliest first."""
    tokens = {trial.index: encoded(ask.space, trial.assignment) for trial in proposed_trials(ask)}
    for fresh, seen in ended_batches(ask):
        repeated = [index for trial in fresh for index in trial.suggestion.origin.repeats if index in tokens]
        members = [*(trial.index for trial in fresh), *repeated]
        rewards = tuple(float(value) for value in reward(ask.settings, seen, members))
        yield Batch(tuple(tokens[index] for index in members), rewards)


def ended_batches(ask: Ask[Any]) -> Iterator[tuple[Sequence[Trial], Results]]:
    """The trials of each batch that has ended, the earliest first, and the results of all trials up to its last."""
    mine, results, size = proposed_trials(ask), results_of(ask), ask.settings.batch
    for first in range(0, len(mine) - size + 1, size):
        fresh = mine[first : first + size]
        if not all(trial.state.over for trial in fresh):
            return
        yield fresh, np.where(np.arange(len(results))[:, None] <= fresh[-1].index, results, np.nan)


def proposed_trials(ask: Ask[Any]) -> list[Trial]:
    """The trials of the history whose assignments were not given by the user."""
    return [trial for trial in ask.history if trial.suggestion.origin.kind is not Kind.GIVEN]


def results_of(ask: Ask[Any]) -> Results:
    """The results of all trials of the history."""
    objectives = ask.experiment.objective
    results = np.full((ask.history.next_index, len(objectives)), np.nan)
    for trial in ask.history:
        for column, objective in enumerate(objectives):
            if (value := trial.observed(objective.metric)) is not None:
                results[trial.index, column] = objective.loss(value)
    return results
