"""Tree-structured Parzen estimator: sample where good trials are dense, keep what is densest there against the rest.

Papers: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4; one kernel over all
parameters at once after Falkner et al., "BOHB", ICML 2018, section 3.2; bandwidth n^(-1/(d+4)) after Scott, 1992.
Departs from them: kernels are cut off at the bounds; a parameter that is inactive in a trial is unknown there, so that
its kernel is the prior, and one density covers all branches of a conditional space; pending trials count among the bad.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.evidence import Evidence, opening
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.normal import cdf, quantile
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Suggestion

CATEGORY_WEIGHT = 0.8  # of its own category in a kernel of few trials; the rest is spread evenly
BANDWIDTH = 0.1  # of one kernel, as a share of the range
LEAST_BANDWIDTH = 0.01


class TPESettings(Settings):
    startup: Annotated[int, Field(ge=1)] = 10
    """Trials of a Sobol sequence before the densities are asked."""
    candidates: Annotated[int, Field(ge=1)] = 128
    """Points drawn from the density of the good trials, of which the best is kept."""
    independent: bool = False
    """Whether each parameter has densities of its own, as in the first paper, instead of all one together."""


@dataclass(frozen=True)
class Density:
    """A mixture of kernels at trials, and the uniform prior as one kernel more.

    Attributes:
        centres: units of the trials, shape (n, parameter), NaN where inactive.
        bandwidth: of each ordered parameter, shape (parameter,).
        categories: number of categories of each parameter, 0 for what has an order.
    """

    centres: Array
    bandwidth: Array
    categories: NDArray[np.int64]

    @classmethod
    def at(cls, centres: Array, categories: NDArray[np.int64], dimensions: int) -> "Density":
        width = max(LEAST_BANDWIDTH, BANDWIDTH * (len(centres) + 1) ** (-1 / (dimensions + 4)))
        return cls(centres, np.full(centres.shape[1], width), categories)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Units drawn from the mixture, shape (count, parameter); what no kernel knows is drawn from the prior."""
        which = rng.integers(len(self.centres) + 1, size=count)
        prior = rng.random((count, self.centres.shape[1]))
        centres = np.vstack([self.centres, np.full((1, self.centres.shape[1]), np.nan)])[which]
        low, high = cdf(-centres / self.bandwidth), cdf((1 - centres) / self.bandwidth)
        near = np.clip(centres + self.bandwidth * quantile(low + prior * (high - low)), 0.0, 1.0)
        same = (rng.random(prior.shape) < self._own_weight()) & (self.categories > 0)
        drawn = np.where(self.categories > 0, np.where(same, centres, prior), near)
        return np.where(np.isnan(centres), prior, drawn)

    def _own_weight(self) -> Array:
        """How much a categorical kernel adds to its own category: less spread evenly, the more trials there are."""
        return np.full(len(self.categories), 1 - (1 - CATEGORY_WEIGHT) * (len(self.centres) + 1) ** (-1 / 4))

    def log(self, points: Array, place: int) -> Array:
        """Logarithm of each kernel's density of one parameter at points, shape (point, kernel); 0 where inactive."""
        here, centres, bandwidth = points[:, place, None], self.centres[None, :, place], self.bandwidth[place]
        if count := self.categories[place]:
            own = self._own_weight()[place]
            density = np.where(np.abs(here - centres) * count < 0.5, math.log(own * count + 1 - own), math.log(1 - own))
        else:
            inside = cdf((1 - centres) / bandwidth) - cdf(-centres / bandwidth)
            density = -0.5 * ((here - centres) / bandwidth) ** 2
            density -= np.log(bandwidth * inside) + 0.5 * math.log(2 * math.pi)
        inactive = np.isnan(here) | np.isnan(centres)
        return np.where(inactive, 0.0, density) if inactive.any() else density

    def log_mixture(self, points: Array) -> Array:
        """Logarithm of the density at points over all parameters together, shape (point,)."""
        joint = np.zeros((len(points), len(self.centres) + 1))  # the last kernel is the prior
        for place in range(points.shape[1]):
            joint[:, :-1] += self.log(points, place)
        return _log_mean(joint)

    def log_marginals(self, points: Array) -> Array:
        """The same for each parameter by itself, shape (point, parameter)."""
        prior = np.zeros((len(points), 1))
        each = [_log_mean(np.hstack([self.log(points, place), prior])) for place in range(points.shape[1])]
        return np.column_stack(each)


def _log_mean(logarithms: Array) -> Array:
    """The logarithm of the mean of each row's numbers, given their logarithms."""
    highest = logarithms.max(axis=1, keepdims=True)
    return np.log(np.mean(np.exp(logarithms - highest), axis=1)) + highest[:, 0]


def good_count(trials: int) -> int:
    """How many of the trials count as good: a tenth, at least two, at most 25."""
    return min(max(2, math.ceil(0.1 * trials)), 25)


@algorithm("tpe", settings=TPESettings, earlier=True)
def tpe(ask: Ask[TPESettings]) -> list[Suggestion]:
    """For each index the candidate with the highest ratio of the good trials' density to that of the rest."""
    evidence = Evidence.of(ask)
    if evidence.scored < ask.settings.startup:
        return opening(ask, evidence)
    features = Features(ask.space)
    order = np.argsort(evidence.losses, kind="stable")
    good, bad = np.split(order, [good_count(len(order))])
    above = Density.at(evidence.units[good], features.categories, len(ask.space))
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        below = Density.at(np.vstack([evidence.units[bad], evidence.pending]), features.categories, len(ask.space))
        candidates = features.snap(above.draw(ask.settings.candidates, rng))
        if ask.settings.independent:
            candidates = _recombined(features, candidates, above, below)
        ratio = above.log_mixture(candidates) - below.log_mixture(candidates)
        chosen = evidence.take(candidates[np.argsort(-ratio, kind="stable")], rng)
        if chosen is None:
            break
        suggestions.append(Suggestion(index, chosen))
    return suggestions


def _recombined(features: Features, candidates: Array, above: Density, below: Density) -> Array:
    """The best value of each parameter by itself, first; then the candidates as they were drawn."""
    ratio = above.log_marginals(candidates) - below.log_marginals(candidates)
    ratio = np.where(np.isnan(candidates), -np.inf, ratio)
    best = candidates[np.argmax(ratio, axis=0), np.arange(candidates.shape[1])]
    return np.vstack([features.snap(best[None]), candidates])
