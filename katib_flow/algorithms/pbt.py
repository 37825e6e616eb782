"""Population based training: the worst members copy the weights of the best and continue with perturbed parameters.

Paper: Jaderberg et al., "Population Based Training of Neural Networks", arXiv 1711.09846, Algorithm 1 and section 4.1.1
(truncation selection; perturbation by 1.2 or 0.8). The settings have the names of Katib's service.
Departs from it: a member is a chain of trials, each of which continues from its parent's checkpoint. A category is kept
unless it is resampled; an ordinal moves to a neighbouring value. A failed trial is the worst, and is always replaced.
Gives: the parent is the trial whose checkpoint is continued: the member's own last trial or, after exploiting, that of
another member.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from katib_flow.algorithms.random import drawn
from katib_flow.algorithms.registry import Ask, Settings, algorithm, endless
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial, Value
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, OrdinalParameter, Parameter
from katib_flow.spec.space import Assignment, SearchSpace

FACTORS = (0.8, 1.2)


class PBTSettings(Settings):
    """Settings of ``pbt``."""

    n_population: Annotated[int, Field(ge=2)] = 20
    """Number of members, which train in parallel."""
    truncation_threshold: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the members that count as the worst, and are replaced; the same share counts as the best."""
    resample_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability that a parameter is drawn anew instead of perturbed when a member explores; 0 by default."""


def _check(experiment: Experiment, settings: PBTSettings) -> Iterator[SpecError]:
    if experiment.budget is None:  # then only a limit ends the experiment
        yield from endless(experiment)


@dataclass(frozen=True)
class Member:
    """A member and its last trial, None before its first."""

    number: int
    last: Trial | None = None

    @property
    def generation(self) -> int:
        """The generation of its next trial, from 0."""
        return 0 if self.last is None else int(str(self.last.suggestion.info["generation"])) + 1


@algorithm("pbt", settings=PBTSettings, check=_check, ends=True, budget=True)
def pbt(ask: Ask[PBTSettings]) -> list[Suggestion]:
    """The next trials of the members that are not training, the least trained first; fewer if most are training."""
    members = population(ask)
    last = [member.last for member in members if member.last is not None]
    ready = [
        member
        for member in members
        if member.last is None or (member.last.state.over and _goes_on(ask.experiment, member.last))
    ]
    ready.sort(key=lambda member: (member.generation, member.number))
    return [_next(ask, index, member, last) for index, member in zip(ask.indices, ready, strict=False)]


def population(ask: Ask[PBTSettings]) -> list[Member]:
    """All members, each with the last trial of its chain."""
    last: dict[int, Trial] = {}
    for trial in ask.history:  # in order of index, so that the last one stays
        if isinstance(member := trial.suggestion.info.get("member"), int):
            last[member] = trial
    return [Member(number, last.get(number)) for number in range(ask.settings.n_population)]


def _goes_on(experiment: Experiment, trial: Trial) -> bool:
    """Whether the trial has not spent the maximum budget."""
    budget = experiment.budget
    return budget is None or (trial.suggestion.budget or 0) < budget.max


def _next(ask: Ask[PBTSettings], index: int, member: Member, last: list[Trial]) -> Suggestion:
    rng, budget = ask.rng(index), ask.experiment.budget
    parent = None if member.last is None else exploited(ask, member.last, last, rng)
    if parent is None:  # the member's first trial, or there is no trial to continue
        assignment = (drawn(ask, member.number) if member.last is None else None) or ask.space.draw(rng)
    elif parent is member.last:
        assignment = dict(parent.assignment)
    else:
        assignment = explored(ask.space, parent.assignment, ask.settings.resample_probability or 0.0, rng)
    before = (parent.suggestion.budget or 0) if parent else 0
    return Suggestion(
        index,
        assignment,
        budget=None if budget is None else min(budget.max, before + budget.min),
        parent=parent.index if parent else None,
        info={"member": member.number, "generation": member.generation},
    )


def exploited(ask: Ask[PBTSettings], own: Trial, last: list[Trial], rng: np.random.Generator) -> Trial | None:
    """The trial to continue: that of one of the best members if ``own`` is among the worst or has failed.

    None if no trial can be continued.

    Args:
        last: the last trial of every member; those without a result do not count.
    """
    ranked = ask.experiment.ranked(last)
    share = int(ask.settings.truncation_threshold * len(ranked) + 1e-9)
    share = max(share, 1) if len(ranked) > 1 else 0
    if any(trial is own for trial in ranked[: len(ranked) - share]):
        return own
    best = [trial for trial in ranked[: max(share, 1)] if _goes_on(ask.experiment, trial)]
    if best:
        return best[int(rng.integers(len(best)))]
    return own if any(trial is own for trial in ranked) else None


def explored(space: SearchSpace, old: Assignment, resample: float, rng: np.random.Generator) -> dict[str, Value]:
    """An assignment with each parameter perturbed or drawn anew; parameters that become active are drawn.

    Args:
        resample: the probability that a parameter is drawn anew.
    """
    new: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        drawn, again, up = float(rng.random()), rng.random() < resample, bool(rng.random() < 0.5)
        if space.is_active(name, new):
            new[name] = parameter.at(drawn) if again or name not in old else perturbed(parameter, old[name], up)
    return new


def perturbed(parameter: Parameter, value: Value, up: bool) -> Value:
    """A number times 1.2 or 0.8, moved by at least one step; the neighbour of an ordinal; a category unchanged."""
    if isinstance(parameter, CategoricalParameter):
        return value
    if isinstance(parameter, OrdinalParameter):
        return _at(parameter, parameter.position(value) + (1 if up else -1))
    assert isinstance(parameter, IntParameter | FloatParameter)
    assert isinstance(value, int | float)
    moved = value * FACTORS[up]
    if parameter.size is None:
        return min(max(moved, parameter.min), parameter.max)
    here = parameter.position(value)
    there = round((moved - parameter.min) / parameter.step) if parameter.step else here
    if there == here:
        there += 1 if moved > value else -1
    return _at(parameter, there)


def _at(parameter: Parameter, position: int) -> Value:
    assert parameter.size is not None
    return parameter.nth(min(max(position, 0), parameter.size - 1))
