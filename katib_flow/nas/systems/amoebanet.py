"""Regularised evolution: mutate the best of a few rivals drawn from the youngest trials; the oldest die, however good.

Paper: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019, Algorithm 1. There P is
100 and S is 25; the space is ``pairs`` with 5 nodes.
Departs from it: death is being out of reach, for only the last P trials are read, so there is no state to keep; nobody
waits, a mutant is made whenever one may start; nothing is tried twice, so there is no mutation that changes nothing.
Parameters that are no decisions of an architecture evolve alike.
"""

from collections.abc import Hashable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE, unseen
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Kind, Origin, Suggestion, Trial, Value
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.space import Assignment, SearchSpace


class AmoebaNetSettings(Settings):
    population: Annotated[int, Field(ge=2)] = 20
    """P: how many of the youngest trials are alive. Until so many have ended, architectures are drawn at random."""
    sample: Annotated[int, Field(ge=1)] = 10
    """S: rivals of which the best is mutated; drawn with replacement."""


@algorithm("amoebanet", settings=AmoebaNetSettings, aliases=("regularized-evolution",))
def amoebanet(ask: Ask[AmoebaNetSettings]) -> list[Suggestion]:
    """Fewer than asked for where the space is used up."""
    alive = ask.history.completed(ask.objective.metric)[-ask.settings.population :]
    seen = {ask.space.key(trial.assignment) for trial in ask.history}
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        suggestion = _mutant(ask, index, alive, seen) or _drawn(ask, index, seen)
        if suggestion is None:
            break
        seen.add(ask.space.key(suggestion.assignment))
        suggestions.append(suggestion)
    return suggestions


def _mutant(ask: Ask[AmoebaNetSettings], index: int, alive: Sequence[Trial], seen: set[Hashable]) -> Suggestion | None:
    """A mutant of the best of S rivals; None while the population grows, or where only known ones come up."""
    if len(alive) < ask.settings.population:
        return None
    rng = ask.rng(index)
    for _ in range(PATIENCE):
        rivals = [alive[position] for position in rng.integers(len(alive), size=ask.settings.sample)]
        parent = min(rivals, key=lambda trial: ask.objective.loss(trial.observations[ask.objective.metric]))
        assignment = mutated(ask.space, parent.assignment, rng)
        if ask.space.key(assignment) not in seen:
            return Suggestion(index, assignment, origin=Origin(Kind.MODIFY, (parent.index,)))
    return None


def _drawn(ask: Ask[AmoebaNetSettings], index: int, seen: set[Hashable]) -> Suggestion | None:
    assignment = unseen(ask.space, seen, ask.rng(index))
    return None if assignment is None else Suggestion(index, assignment)


def mutated(space: SearchSpace, old: Assignment, rng: np.random.Generator) -> dict[str, Value]:
    """An assignment that differs in one parameter, any that has a choice; what hangs on it is drawn anew."""
    open_ = [name for name in old if space.parameters[name].size != 1]
    changed = open_[int(rng.integers(len(open_)))] if open_ else ""
    new: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, new):
            kept = name in old and name != changed
            new[name] = old[name] if kept else _another(parameter, old.get(name), name == changed, rng)
    return new


def _another(parameter: Parameter, old: Value, different: bool, rng: np.random.Generator) -> Value:
    if different and parameter.size is not None:
        step = 1 + int(rng.integers(parameter.size - 1))
        return parameter.nth((parameter.position(old) + step) % parameter.size)
    return parameter.at(float(rng.random()))
