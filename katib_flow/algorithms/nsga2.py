"""NSGA-II: a genetic algorithm for several objectives that selects by non-dominated fronts and crowding distance.

Paper: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 2002;
crossover and mutation for bounded reals after Deb and Agrawal, 1995 (SBX), and Deb and Goyal, 1996 (polynomial).
Departs from it: a child is bred from the current survivors whenever a worker is free, and survivors are selected each
time a population of trials has ended; a child has the category of either parent, and a mutation changes it to any; a
parameter that becomes active starts anywhere; no assignment is tried twice. Trials that failed, or that lack a value of
an objective, have no children.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow import pareto
from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Kind, Origin, Suggestion, Trial, Value

ATTEMPTS = 16  # consecutive children that are already known, before a random new point is taken instead
CROSSOVER_SHARE = 0.5  # share of the coordinates that are crossed


class NSGA2Settings(Settings):
    """Settings of ``nsga2``."""

    population: Annotated[int, Field(ge=2)] = 24
    """Number of random trials at the start, and of survivors that may have children."""
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the children that have two parents; the others have one."""
    crossover_index: Annotated[float, Field(ge=0)] = 20.0
    """Distribution index eta of the crossover; the larger, the nearer a child is to its parents."""
    mutation: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability that a parameter mutates; by default 1 / (number of parameters)."""
    mutation_index: Annotated[float, Field(ge=0)] = 20.0
    """Distribution index eta of the mutation; the larger, the smaller a mutation is."""


@dataclass(frozen=True)
class Population:
    """The trials that may have children.

    Attributes:
        trials: some may belong to earlier experiments.
        units: their points, shape (trial, parameter), NaN where inactive.
        rank: the number of the front of each trial, shape (trial,); 0 is not dominated.
        crowding: the crowding distance of each trial within its front, shape (trial,).
    """

    trials: Sequence[Trial]
    units: Array
    rank: NDArray[np.int64]
    crowding: Array

    def winner(self, rng: np.random.Generator) -> int:
        """The position of the better of two random trials (crowded-comparison operator)."""
        one, other = rng.integers(len(self.trials), size=2)
        return int(min((self.rank[at], -self.crowding[at], turn, at) for turn, at in enumerate((one, other)))[3])

    def point(self, position: int, rng: np.random.Generator) -> Array:
        """The units of the trial at a position, with random coordinates for inactive parameters."""
        units = self.units[position]
        return np.where(np.isnan(units), rng.random(len(units)), units)


@algorithm("nsga2", settings=NSGA2Settings, several=True)
def nsga2(ask: Ask[NSGA2Settings]) -> list[Suggestion]:
    """Random assignments up to the size of the population, then children of the survivors."""
    features, alive = Features(ask.space), _alive(ask)
    known = Known.from_ask(ask, (trial for trial in ask.history if trial.assignment in ask.space))
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        count = len(ask.earlier) + len(ask.history) + len(suggestions)
        random = count < ask.settings.population or not alive.trials
        child = None if random else _child(ask, features, alive, known, rng)
        drawn, origin = child or (known.drawn(rng), Origin())
        if drawn is None:
            break
        known.take(drawn, index)
        suggestions.append(Suggestion(index, drawn, origin=origin))
    return suggestions


def _alive(ask: Ask[NSGA2Settings]) -> Population:
    """The survivors of the trials so far, selected after every ``population`` trials."""
    complete = pareto.complete(ask.experiment, (*ask.earlier, *ask.history))
    trials = [trial for trial in complete if trial.assignment in ask.space]
    losses, size = pareto.losses_of(ask.experiment, trials), ask.settings.population
    alive = np.zeros(0, dtype=np.intp)
    for start in range(0, len(trials), size):
        alive = np.concatenate([alive, np.arange(start, min(start + size, len(trials)))])
        alive = alive[survivors(losses[alive], size)]
    units = np.array([ask.space.encode(trials[at].assignment) for at in alive]).reshape(-1, len(ask.space))
    return Population([trials[at] for at in alive], units, pareto.fronts(losses[alive]), _crowding(losses[alive]))


def survivors(losses: Array, size: int) -> NDArray[np.intp]:
    """Positions of the survivors: whole fronts, and the least crowded of the first one that does not fit (III-C)."""
    return np.lexsort((-_crowding(losses), pareto.fronts(losses)))[:size]


def _crowding(losses: Array) -> Array:
    """Each point's crowding distance within its front."""
    rank, distance = pareto.fronts(losses), np.zeros(len(losses))
    for front in np.unique(rank):
        distance[rank == front] = pareto.crowding(losses[rank == front])
    return distance


def _child(
    ask: Ask[NSGA2Settings], features: Features, alive: Population, known: Known, rng: np.random.Generator
) -> tuple[dict[str, Value], Origin] | None:
    """A new child, with its parents among this experiment's trials; None if no attempt gave a new one."""
    settings, categories = ask.settings, features.categories > 0
    share = 1 / len(ask.space) if settings.mutation is None else settings.mutation
    own = {id(trial) for trial in ask.history}  # indices of earlier experiments mean other trials

    def child() -> tuple[dict[str, Value], Origin]:
        winners = [alive.winner(rng)]
        point = alive.point(winners[0], rng)
        winners.append(alive.winner(rng))
        other = alive.point(winners[1], rng)
        if rng.random() < settings.crossover:
            point = crossed(point, other, categories, settings.crossover_index, rng)
        else:
            winners.pop()
        assignment = ask.space.decode(mutated(point, categories, share, settings.mutation_index, rng))
        parents = dict.fromkeys(alive.trials[at].index for at in winners if id(alive.trials[at]) in own)
        return assignment, Origin(Kind.MODIFY, tuple(parents))

    return known.first(child() for _ in range(ATTEMPTS))


def crossed(one: Array, other: Array, categories: NDArray[np.bool_], eta: float, rng: np.random.Generator) -> Array:
    """A child of two points, shape (parameter,): simulated binary crossover in [0, 1], and a category of either."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    apart = np.maximum(high - low, 1e-12)
    left = rng.random(len(one)) < 0.5  # which of the two children of SBX is taken
    reach = np.where(left, low, 1 - high)  # distance to the bound on the child's side
    alpha = 2 - (1 + 2 * reach / apart) ** -(eta + 1)
    u = rng.random(len(one))
    spread = np.where(u <= 1 / alpha, u * alpha, 1 / (2 - u * alpha)) ** (1 / (eta + 1))
    middle = (low + high) / 2
    child = np.where(left, middle - spread * apart / 2, middle + spread * apart / 2)
    crosses = (rng.random(len(one)) < CROSSOVER_SHARE) & (high - low > 1e-12)
    return np.where(categories, np.where(left, one, other), np.where(crosses, np.clip(child, 0.0, 1.0), one))


def mutated(point: Array, categories: NDArray[np.bool_], share: float, eta: float, rng: np.random.Generator) -> Array:
    """A point, shape (parameter,), after polynomial mutation in [0, 1]; a category changes to any of its values."""
    u, power = rng.random(len(point)), 1 / (eta + 1)
    down = (2 * u + (1 - 2 * u) * (1 - point) ** (eta + 1)) ** power - 1
    up = 1 - (2 * (1 - u) + 2 * (u - 0.5) * point ** (eta + 1)) ** power
    moved = np.clip(point + np.where(u <= 0.5, down, up), 0.0, 1.0)
    mutates = rng.random(len(point)) < share
    return np.where(mutates, np.where(categories, rng.random(len(point)), moved), point)
