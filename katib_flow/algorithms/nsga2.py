"""NSGA-II: parents from the fronts that nobody dominates and where they are sparse, children by crossover and mutation.

Paper: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 2002;
crossover and mutation for bounded reals after Deb and Agrawal, 1995 (SBX), and Deb and Goyal, 1996 (polynomial).
Departs from it: a child is bred whenever a worker is free, of those that survived so far, and survivors are chosen each
time a population of trials has ended; a category is taken from either parent, and mutates to any other; what becomes
active starts anywhere; nothing is tried twice. Failed trials, and those without a value of every objective, have no
children.
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

ATTEMPTS = 16  # children that have been tried already, in a row, before any other point is taken
CROSSOVER_SHARE = 0.5  # of the coordinates of two parents that cross


class NSGA2Settings(Settings):
    population: Annotated[int, Field(ge=2)] = 24
    """Trials drawn at random to start with, and then survivors that may have children."""
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of children with two parents; the others have one."""
    crossover_index: Annotated[float, Field(ge=0)] = 20.0
    """How near a child is to its parents, eta of the crossover."""
    mutation: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the parameters that mutate; one of all where it is not given."""
    mutation_index: Annotated[float, Field(ge=0)] = 20.0
    """How small a mutation is, eta of the mutation."""


@dataclass(frozen=True)
class Population:
    """Who may have children.

    Attributes:
        trials: some may be of earlier experiments.
        units: their points, shape (trial, parameter), NaN where inactive.
        rank, sparse: of the front of each, and its crowding distance there.
    """

    trials: Sequence[Trial]
    units: Array
    rank: NDArray[np.int64]
    sparse: Array

    def winner(self, rng: np.random.Generator) -> int:
        """The place of the better of two (the crowded-comparison operator)."""
        one, other = rng.integers(len(self.trials), size=2)
        return int(min((self.rank[at], -self.sparse[at], turn, at) for turn, at in enumerate((one, other)))[3])

    def point(self, place: int, rng: np.random.Generator) -> Array:
        """Of one of them, inactive coordinates anywhere."""
        units = self.units[place]
        return np.where(np.isnan(units), rng.random(len(units)), units)


@algorithm("nsga2", settings=NSGA2Settings, several=True)
def nsga2(ask: Ask[NSGA2Settings]) -> list[Suggestion]:
    """Random draws up to the size of the population, then children of the survivors."""
    features, alive = Features(ask.space), _alive(ask)
    known = Known.of(ask, (trial for trial in ask.history if trial.assignment in ask.space))
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
    """The population after the trials so far, one population of them after another."""
    complete = pareto.complete(ask.experiment, (*ask.earlier, *ask.history))
    trials = [trial for trial in complete if trial.assignment in ask.space]
    losses, size = pareto.losses_of(ask.experiment, trials), ask.settings.population
    alive = np.zeros(0, dtype=np.intp)
    for start in range(0, len(trials), size):
        alive = np.concatenate([alive, np.arange(start, min(start + size, len(trials)))])
        alive = alive[survivors(losses[alive], size)]
    units = np.array([ask.space.encode(trials[place].assignment) for place in alive]).reshape(-1, len(ask.space))
    return Population([trials[at] for at in alive], units, pareto.fronts(losses[alive]), _crowding(losses[alive]))


def survivors(losses: Array, size: int) -> NDArray[np.intp]:
    """Positions of those that live on: whole fronts, of the last that does not fit the sparsest (section III-C)."""
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
    """A child that is new, with its parents among this experiment's trials; None where none was in some attempts."""
    settings, categories = ask.settings, features.categories > 0
    share = 1 / len(ask.space) if settings.mutation is None else settings.mutation
    own = {id(trial) for trial in ask.history}  # an index means another trial in an earlier experiment

    def child() -> tuple[dict[str, Value], Origin]:
        places = [alive.winner(rng)]
        point = alive.point(places[0], rng)
        places.append(alive.winner(rng))
        other = alive.point(places[1], rng)
        if rng.random() < settings.crossover:
            point = crossed(point, other, categories, settings.crossover_index, rng)
        else:
            places.pop()
        made = ask.space.decode(mutated(point, categories, share, settings.mutation_index, rng))
        parents = dict.fromkeys(alive.trials[at].index for at in places if id(alive.trials[at]) in own)
        return made, Origin(Kind.MODIFY, tuple(parents))

    return known.first(child() for _ in range(ATTEMPTS))


def crossed(one: Array, other: Array, categories: NDArray[np.bool_], eta: float, rng: np.random.Generator) -> Array:
    """A child of two points: simulated binary crossover within [0, 1], a category of either."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    apart = np.maximum(high - low, 1e-12)
    left = rng.random(len(one)) < 0.5  # of the two children that SBX has
    reach = np.where(left, low, 1 - high)  # to the bound on the child's side
    alpha = 2 - (1 + 2 * reach / apart) ** -(eta + 1)
    u = rng.random(len(one))
    spread = np.where(u <= 1 / alpha, u * alpha, 1 / (2 - u * alpha)) ** (1 / (eta + 1))
    middle = (low + high) / 2
    child = np.where(left, middle - spread * apart / 2, middle + spread * apart / 2)
    crosses = (rng.random(len(one)) < CROSSOVER_SHARE) & (high - low > 1e-12)
    return np.where(categories, np.where(left, one, other), np.where(crosses, np.clip(child, 0.0, 1.0), one))


def mutated(point: Array, categories: NDArray[np.bool_], share: float, eta: float, rng: np.random.Generator) -> Array:
    """The point with some coordinates moved by polynomial mutation within [0, 1], a category to any."""
    u, power = rng.random(len(point)), 1 / (eta + 1)
    down = (2 * u + (1 - 2 * u) * (1 - point) ** (eta + 1)) ** power - 1
    up = 1 - (2 * (1 - u) + 2 * (u - 0.5) * point ** (eta + 1)) ** power
    moved = np.clip(point + np.where(u <= 0.5, down, up), 0.0, 1.0)
    mutates = rng.random(len(point)) < share
    return np.where(mutates, np.where(categories, rng.random(len(point)), moved), point)
