"""Bayesian optimisation over network morphisms: the acquisition is optimised on a tree of edits.

Paper: Jin et al., "Auto-Keras: An Efficient Neural Architecture Search System", KDD 2019 (arXiv 1806.10282, 2018):
section 3.1 (edit distance; its Gaussian process), section 3.2 (acquisition: the lower confidence bound mu - 2.5 sigma,
optimised by Algorithm 1, A* and simulated annealing on the tree of morphisms), section 3.3 (morphisms; a child inherits
weights through all of them).
Departs from it: amplitude and scale of the kernel exp(-rho^2), and the noise, are fitted. The morphisms of an expanded
network are random, as in the authors' code. If no network on the tree promises an improvement, its best one is tried
all the same. The surrogate is fitted to at most ``memory`` trials. Networks suggested before any has a result are
trained from scratch. Other parameters are random in each trial.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.gp import standardised, winsorised
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.algorithms.threads import one_thread
from katib_flow.history import Suggestion
from katib_flow.nas.distances.edit import Embedding, distances, network_of, squared
from katib_flow.nas.growth import Array, Candidate, Grown, GrowthSettings, check_start, most_telling
from katib_flow.nas.morphing import morphism
from katib_flow.nas.surrogate import fitted
from katib_flow.spec.model import Count

COOLING = 0.9  # r of Algorithm 1
Acquisition = Callable[[Sequence[Candidate]], Array]


class NetworkMorphismSettings(GrowthSettings):
    """Settings of ``network-morphism``; the symbols of the paper stand first."""

    paper: ClassVar = {"lowest_temperature": 1e-4, "max_parameters": 1 << 25, "memory": 10_000}
    confidence: Annotated[float, Field(ge=0)] = 2.5
    """beta: distance of the confidence bound from the mean, in standard deviations."""
    skip_weight: Annotated[float, Field(gt=0)] = 0.1
    """lambda: weight of skip connections in the edit distance, relative to layers; the default is the authors'."""
    neighbours: Count = 8
    """Number of random morphisms when a network of the tree is expanded; the default is the authors'."""
    lowest_temperature: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """T_low: final temperature of the search of the tree, from 1 by factors of 0.9; 0.0001 in the authors' code."""
    memory: Annotated[int, Field(ge=2)] = 128
    """Largest number of trials that the surrogate is fitted to: half of them the best, the others spread in rank."""


@algorithm(
    "network-morphism",
    settings=NetworkMorphismSettings,
    check=check_start,
    aliases=("auto-keras",),
    strategy="modification",
    scope="network",
    earlier=True,
)
def network_morphism(ask: Ask[NetworkMorphismSettings]) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if no morphism gives a new network."""
    with one_thread():
        return list(_suggested(ask))


def _suggested(ask: Ask[NetworkMorphismSettings]) -> Iterator[Suggestion]:
    grown, settings = Grown.from_ask(ask), ask.settings
    for index in ask.indices:
        rng = ask.rng(index)
        if len(grown.evaluated) > grown.earlier:
            candidate = _most_promising(grown, settings, rng)
        else:
            candidate = grown.first(rng, morphism, settings.max_parameters)
        if candidate is None:
            return
        grown.take(candidate)
        yield candidate.suggestion(index, ask.space.draw(rng), "inherit" if candidate.parent else "fresh")


def _most_promising(grown: Grown, settings: NetworkMorphismSettings, rng: np.random.Generator) -> Candidate | None:
    mine = len(grown.evaluated) - grown.earlier
    seen = np.union1d(most_telling(grown.losses, settings.memory), [np.argmin(grown.losses[:mine])])
    evaluated = [grown.evaluated[at] for at in seen]
    costs = standardised(winsorised(grown.losses[seen]))
    bound = lower_bound(evaluated, costs, grown.pending, settings)
    roots = [(candidate, float(cost)) for candidate, cost in zip(evaluated, costs, strict=True) if candidate.parent]
    return search_tree(grown, roots, bound, settings, rng)


def lower_bound(
    evaluated: Sequence[Candidate], costs: Array, pending: Sequence[Candidate], settings: NetworkMorphismSettings
) -> Acquisition:
    """The lower confidence bound of the standardised cost of networks (section 3.2)."""
    anchors = [network_of(candidate.topology) for candidate in evaluated]
    embedding = Embedding.drawn(len(anchors), np.random.default_rng(len(anchors)))

    def positions(candidates: Sequence[Candidate]) -> Array:
        networks = [network_of(candidate.topology) for candidate in candidates]
        return embedding.positions(distances(networks, anchors, settings.skip_weight))

    known = positions([*evaluated, *pending])
    surrogate = fitted([squared(known, known)[None]], costs)

    def bound(candidates: Sequence[Candidate]) -> Array:
        mean, variance = surrogate.posterior([squared(known, positions(candidates))[None]])
        return mean - settings.confidence * np.sqrt(variance)

    return bound


def search_tree(
    grown: Grown,
    evaluated: Sequence[tuple[Candidate, float]],
    bound: Acquisition,
    settings: NetworkMorphismSettings,
    rng: np.random.Generator,
) -> Candidate | None:
    """Algorithm 1: the new network with the lowest bound on a tree whose roots are the evaluated networks."""
    order = itertools.count()
    queue = [(float(cost), next(order), candidate) for candidate, cost in evaluated]
    heapq.heapify(queue)
    least, best, lowest = queue[0][0], None, np.inf
    temperature = 1.0
    while queue and temperature > settings.lowest_temperature:
        temperature *= COOLING
        _, _, candidate = heapq.heappop(queue)
        drawn = (morphism(candidate.topology, rng) for _ in range(settings.neighbours))
        children = grown.new(candidate.edited(edits, settings.max_parameters) for edits in drawn)
        for child, value in zip(children, bound(children) if children else (), strict=True):
            if np.exp(min(0.0, (least - value) / temperature)) > rng.random():
                heapq.heappush(queue, (float(value), next(order), child))
            if value < lowest:
                best, lowest = child, float(value)
            least = min(least, float(value))
    return best
