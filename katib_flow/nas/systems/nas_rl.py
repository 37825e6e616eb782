"""A recurrent controller decides on an architecture slot by slot, and learns from how well its networks did.

Paper: Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017: an LSTM of two layers of 35
units, REINFORCE with a moving mean of the rewards as baseline, many networks trained side by side. ``controller`` has
the network; the space of the paper's convolutional networks is near to ``macro``.
Departs from it: it learns in order of index, ``batch`` trials an update, from all batches that are over, so that nobody
waits. Adam's rate is 0.02, not 6e-4, for hundreds of trials instead of 12,800. What the controller decides on again is
not trained again: it counts with the result it had (``Origin.repeats``); one that has made up its mind is given a
neighbour of what it decided on. The reward is no power of the accuracy but of the share of earlier trials that were no
better, so that any objective will do.
Parameters that are no decisions are decided alike; of those with many values the controller decides on one of 16 parts
of their range, and chance inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.learning import Learner
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Kind, Origin, Suggestion, Value
from katib_flow.nas.door import Later
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.space import Assignment, SearchSpace

if TYPE_CHECKING:
    from katib_flow.nas import controller
else:
    controller = Later("katib_flow.nas.controller")

PARTS = 16
REPEATS = 16  # of what is known, before the controller is taken to have made up its mind


class NasRlSettings(Settings):
    batch: Annotated[int, Field(ge=1)] = 4
    """Trials from which the controller learns at once."""
    lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of Adam; the paper's 0.0006 is for thousands of trials."""
    units: Annotated[int, Field(ge=1, le=512)] = 35
    """Of each layer of the LSTM."""
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    """Of the LSTM."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of the moving mean of the rewards."""
    entropy: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the entropy of the decisions in what the controller maximises; more explores longer."""
    power: Annotated[float, Field(gt=0)] = 3.0
    """Of the share of earlier trials that were no better, which is the reward; more looks at the best only."""


@dataclass(frozen=True)
class Batch:
    """What an update is made of: decisions, shape (sequence, slot), and their rewards."""

    tokens: tuple[tuple[int, ...], ...]
    rewards: tuple[float, ...]


class Teaching(Learner[NasRlSettings, Batch, "controller.Controller"]):
    """A lesson is a batch, which teaches the controller in one update."""

    def lessons(self, ask: Ask[NasRlSettings]) -> list[Batch]:
        return list(batches(ask))

    def begin(self, ask: Ask[NasRlSettings]) -> controller.Controller:
        settings = ask.settings
        counts = tuple(choices(parameter) for parameter in ask.space.parameters.values())
        shape = controller.Shape(counts, units=settings.units, layers=settings.layers)
        teaching = controller.Teaching(settings.lr, settings.baseline_decay, entropy=settings.entropy)
        return controller.Controller(shape, teaching, ask.seed)

    def learn(
        self, ask: Ask[NasRlSettings], known: controller.Controller, lesson: Batch, number: int
    ) -> controller.Controller:
        known.learn(np.array(lesson.tokens), np.array(lesson.rewards))
        return known

    def pack(self, known: controller.Controller) -> bytes:
        return controller.packed(known)

    def unpack(self, ask: Ask[NasRlSettings], content: bytes) -> controller.Controller:
        return controller.unpacked(self.begin(ask), content)


@algorithm("nas-rl", settings=NasRlSettings, learner=Teaching(), extra="nas")
def nas_rl(ask: Ask[NasRlSettings], taught: controller.Controller) -> list[Suggestion]:
    """Fewer than asked for where the space is used up."""
    known = Known.of(ask)
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        suggestion = _decided(ask, index, taught, known)
        if suggestion is None:
            break
        known.take(suggestion.assignment, index)
        suggestions.append(suggestion)
    return suggestions


def _decided(ask: Ask[NasRlSettings], index: int, taught: controller.Controller, known: Known) -> Suggestion | None:
    """What the controller decides on first that is not known, else a neighbour of it; None in a space used up."""
    rng, repeats = ask.rng(index), list[int]()

    def proposals() -> Iterator[tuple[Assignment, Origin]]:
        assignment: Assignment = {}
        for assignment in decided(ask.space, taught, rng, REPEATS):
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


# decisions as tokens


def choices(parameter: Parameter) -> int:
    """How many values, or parts of its range, the controller chooses from."""
    size = parameter.size
    return size if size is not None and (size <= PARTS or not hasattr(parameter, "min")) else PARTS


def decided(
    space: SearchSpace, taught: controller.Controller, rng: np.random.Generator, count: int
) -> list[dict[str, Value]]:
    """Assignments that a controller decides on."""
    names, made = list(space.parameters), [dict[str, Value]() for _ in range(count)]

    def is_active(row: int, slot: int, before: Sequence[int]) -> bool:
        if slot:
            put(row, slot - 1, before[slot - 1])
        return space.is_active(names[slot], made[row])

    def put(row: int, slot: int, token: int) -> None:
        if token >= 0:
            made[row][names[slot]] = value_of(space.parameters[names[slot]], token, rng)

    for row, tokens in enumerate(taught.sample(rng, count, is_active)):
        put(row, len(names) - 1, int(tokens[-1]))
    return made


def value_of(parameter: Parameter, token: int, rng: np.random.Generator) -> Value:
    """The value of a token; of a part of a range, any value in it."""
    count = choices(parameter)
    return parameter.nth(token) if count == parameter.size else parameter.at((token + float(rng.random())) / count)


def encoded(space: SearchSpace, assignment: Assignment) -> tuple[int, ...]:
    """The tokens of an assignment."""
    return tuple(
        -1 if name not in assignment else _token(parameter, assignment[name])
        for name, parameter in space.parameters.items()
    )


def _token(parameter: Parameter, value: Value) -> int:
    count = choices(parameter)
    return parameter.position(value) if count == parameter.size else min(int(parameter.unit(value) * count), count - 1)


# what the controller learns from


def batches(ask: Ask[NasRlSettings]) -> Iterator[Batch]:
    """The batches that are over, the earliest first."""
    mine = [trial for trial in ask.history if trial.suggestion.origin.kind is not Kind.GIVEN]
    tokens, losses = {trial.index: encoded(ask.space, trial.assignment) for trial in mine}, _losses(ask)
    size = ask.settings.batch
    for first in range(0, len(mine) - size + 1, size):
        fresh = mine[first : first + size]
        if not all(trial.state.over for trial in fresh):
            return
        repeated = [index for trial in fresh for index in trial.suggestion.origin.repeats if index in tokens]
        members = [*(trial.index for trial in fresh), *repeated]
        seen = np.where(np.arange(len(losses)) <= fresh[-1].index, losses, np.nan)
        yield Batch(tuple(tokens[index] for index in members), rewards(seen, members, ask.settings.power))


def _losses(ask: Ask[NasRlSettings]) -> NDArray[np.float64]:
    """By index; NaN where there is none."""
    losses = np.full(ask.history.next_index, np.nan)
    for trial in ask.history:
        if (value := trial.observed(ask.objective.metric)) is not None:
            losses[trial.index] = ask.objective.loss(value)
    return losses


def rewards(losses: NDArray[np.float64], members: Sequence[int], power: float) -> tuple[float, ...]:
    """Of some trials, the share of all that were no better, to a power; nothing for one that failed.

    Args:
        losses: by index, NaN where there is none.
    """
    ranked, mine = np.sort(losses[~np.isnan(losses)]), losses[list(members)]
    shares = 1 - np.searchsorted(ranked, mine, side="left") / max(1, len(ranked))
    return tuple(np.where(np.isnan(mine), 0.0, shares**power).tolist())
