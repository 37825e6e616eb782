"""Large-scale evolution: of two random networks of a population, the worse dies and the better has a mutated child.

Paper: Real et al., "Large-Scale Evolution of Image Classifiers", ICML 2017: section 3.1 (a worker draws a pair of the
population, kills the worse, and trains a mutated copy of the better; workers never wait for each other), section 3.2
(networks of any depth, and uniformly drawn mutations: ``mutations``; numbers change log-uniformly by a factor of up to
two), section 3.3 (the initial population), section 3.6 (a child inherits the weights of the same shape).
Reads: the trials that are alive follow from the history: all that were trained, minus those that suggestions killed.
Departs from it: the population starts with the initial network and mutants of it with random parameters, not with a
thousand copies at one learning rate, which would differ only by chance; ``alter-parameter`` changes the parameters of
the experiment, such as the learning rate; normalisation and activation belong to a convolution, not to a vertex, so
that a skip connection is added after them; if a mutation does not fit, another one is drawn; a failed child kills no
trial; a network has at most ``max_parameters``.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial
from katib_flow.nas.growth import Candidate, GrowthSettings, Weights, check_start, network_of, one_of
from katib_flow.nas.mutations import MUTATIONS, rescaled
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import Assignment, SearchSpace

KINDS = ("alter-parameter", "identity", "reset-weights", *MUTATIONS)
"""The mutations of the paper, which are drawn uniformly."""
TRIES = 8  # attempts at a mutation, before another one is drawn


class EvolutionSettings(GrowthSettings):
    """Settings of ``large-scale-evolution``."""

    paper: ClassVar = {"population": 1000, "max_parameters": 1 << 25}
    population: Annotated[int, Field(ge=2)] = 12
    """Number of networks that are alive or being trained."""


def _check(experiment: Experiment, settings: EvolutionSettings) -> Iterator[SpecError]:
    yield from check_start(experiment, settings, bare=True)


@algorithm("large-scale-evolution", settings=EvolutionSettings, check=_check, strategy="modification", scope="network")
def large_scale_evolution(ask: Ask[EvolutionSettings]) -> list[Suggestion]:
    """The initial population, then children; fewer than requested while only one living network has a result."""
    assert ask.architectures is not None
    living = alive(ask)
    begun = len(living) + len(ask.history.open())
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        if begun < ask.settings.population:
            start, others = Candidate(ask.architectures.initial), ask.space.draw(rng)
            first = not ask.history and not suggestions
            born = (start, others, "fresh") if first else mutated(ask, start, others, rng)
            suggestions.append(born[0].suggestion(index, born[1], "fresh"))
            begun += 1
        elif len(living) > 1:
            killed, parent = pair(ask, living, rng)
            living.remove(killed)
            child = mutated(ask, Candidate(network_of(parent), parent), parent.assignment, rng)
            suggestions.append(child[0].suggestion(index, *child[1:], killed=killed.index))
    return suggestions


def alive(ask: Ask[EvolutionSettings]) -> list[Trial]:
    """The trained networks that no other trial, trained or in training, has killed."""
    trained = [trial for trial in ask.history.completed(ask.objective.metric) if trial.suggestion.topology]
    killers = (*trained, *ask.history.open())
    killed = {trial.suggestion.info.get("killed") for trial in killers}
    return [trial for trial in trained if trial.index not in killed]


def pair(ask: Ask[EvolutionSettings], living: Sequence[Trial], rng: np.random.Generator) -> tuple[Trial, Trial]:
    """Two random living networks, the worse first; ties are in random order."""
    drawn = [living[position] for position in rng.choice(len(living), 2, replace=False)]
    killed, parent = sorted(drawn, key=lambda trial: -ask.loss(trial))
    return killed, parent


def mutated(
    ask: Ask[EvolutionSettings], parent: Candidate, assignment: Assignment, rng: np.random.Generator
) -> tuple[Candidate, Assignment, Weights]:
    """A network, its parameters and its initial weights, after a random mutation that fits."""
    for _ in range(PATIENCE):
        kind = one_of(KINDS, rng)
        if kind == "identity":
            break
        if kind == "reset-weights":
            return parent, assignment, "fresh"
        if kind == "alter-parameter":
            altered = with_another_parameter(ask.space, assignment, rng)
            if altered != assignment:
                return parent, altered, "shape"
        elif child := _edited(parent, kind, ask.settings.max_parameters, rng):
            return child, assignment, "shape"
    return parent, assignment, "shape"


def _edited(parent: Candidate, kind: str, max_parameters: int, rng: np.random.Generator) -> Candidate | None:
    """A network after a mutation of a kind; None if several random ones do not fit or change nothing."""
    with contextlib.suppress(IndexError):
        for _ in range(TRIES):
            if child := parent.edited(MUTATIONS[kind](parent.topology, rng), max_parameters):
                return child
    return None


def with_another_parameter(space: SearchSpace, assignment: Assignment, rng: np.random.Generator) -> Assignment:
    """Change one parameter: a positive number by a factor of up to two, within its range; else to any other value."""
    if not assignment:
        return assignment
    name = one_of(list(assignment), rng)
    parameter, old = space.parameters[name], assignment[name]
    if isinstance(old, int | float) and not isinstance(old, bool) and old > 0 and hasattr(parameter, "min"):
        near = min(max(rescaled(old, rng), parameter.min), parameter.max)  # type: ignore[attr-defined]
        new = type(old)(round(near) if isinstance(old, int) else near)
        if (altered := {**assignment, name: parameter.at(parameter.unit(new))}) in space:
            return altered
    return space.mutate(assignment, rng, name)
