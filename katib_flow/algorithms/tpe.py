"""Tree-structured Parzen estimator: suggest points where good trials are dense relative to the rest.

Papers: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4; one kernel over all
parameters at once after Falkner et al., "BOHB", ICML 2018, section 3.2; bandwidth n^(-1/(d+4)) after Scott, 1992.
Departs from them: kernels are truncated at the bounds; a parameter that is inactive in a trial is unknown there, so its
kernel is the prior, and one density covers all branches of a conditional space; pending trials count as bad. The degree
to which a trial is good falls with its rank, and the rest of it counts as bad; Song et al., "A General Recipe for
Likelihood-free Bayesian Optimization", ICML 2022, weigh good trials by their improvement, and all trials equally as
bad. Up to a quarter of the suggestions in a conditional space search one branch (``branches``) with densities of its
own trials, because those of all trials give up a branch after a few poor points.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.branches import Branch, active, in_branch, least_searched, searched_alone
from katib_flow.algorithms.evidence import Evidence, opening
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.normal import cdf, quantile
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Suggestion

CATEGORY_WEIGHT = 0.8  # weight of a kernel's own category if there are few trials; the rest is spread evenly
BANDWIDTH = 0.1  # bandwidth of a single kernel, as a share of the range
LEAST_BANDWIDTH = 0.01
GOOD = 0.2  # share of the trials that are good to some degree: their weights add up to a tenth of the trials
MOST_GOOD = 50
MOST_ALONE = 0.25  # the largest share of suggestions that search one branch


class TPESettings(Settings):
    """Settings of ``tpe``."""

    startup: Annotated[int, Field(ge=1)] = 10
    """Number of trials from a Sobol sequence before the densities are used; more while all losses are equal."""
    candidates: Annotated[int, Field(ge=1)] = 128
    """Number of points drawn from the density of the good trials; the best one is suggested."""
    independent: bool = False
    """True for separate densities of each parameter, as in the first paper; False for joint densities."""


@dataclass(frozen=True)
class Density:
    """A mixture of one kernel per trial and the uniform prior as an additional kernel, which has the mean weight.

    Attributes:
        centres: units of the trials, shape (n, parameter), NaN where inactive.
        bandwidth: bandwidth of each parameter, shape (parameter,); unused for unordered ones.
        categories: number of categories of each parameter, 0 if its values are ordered; shape (parameter,).
        shares: the share of each kernel in the mixture, the prior last; shape (n + 1,).
    """

    centres: Array
    bandwidth: Array
    categories: NDArray[np.int64]
    shares: Array

    @classmethod
    def at(
        cls, centres: Array, categories: NDArray[np.int64], dimensions: int, weights: Array | None = None
    ) -> "Density":
        """The mixture of kernels at some centres, with bandwidths by Scott's rule n^(-1/(d+4)), d = ``dimensions``.

        Args:
            weights: relative weights of the kernels, shape (n,); equal by default.
        """
        count = len(centres)
        width = max(LEAST_BANDWIDTH, BANDWIDTH * (count + 1) ** (-1 / (dimensions + 4)))
        relative = np.ones(count) if weights is None else weights / weights.sum() * count
        shares = np.append(relative, 1.0) / (count + 1)
        return cls(centres, np.full(centres.shape[1], width), categories, shares)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Units drawn from the mixture, shape (count, parameter); what a kernel does not know comes from the prior."""
        which = rng.choice(len(self.shares), size=count, p=self.shares)
        prior = rng.random((count, self.centres.shape[1]))
        centres = np.vstack([self.centres, np.full((1, self.centres.shape[1]), np.nan)])[which]
        low, high = cdf(-centres / self.bandwidth), cdf((1 - centres) / self.bandwidth)
        near = np.clip(centres + self.bandwidth * quantile(low + prior * (high - low)), 0.0, 1.0)
        same = (rng.random(prior.shape) < self._own_weight()) & (self.categories > 0)
        drawn = np.where(self.categories > 0, np.where(same, centres, prior), near)
        return np.where(np.isnan(centres), prior, drawn)

    def _own_weight(self) -> Array:
        """The weight of a categorical kernel's own category, shape (parameter,); it grows with the number of trials."""
        return np.full(len(self.categories), 1 - (1 - CATEGORY_WEIGHT) * (len(self.centres) + 1) ** (-1 / 4))

    def log(self, points: Array, parameter: int) -> Array:
        """Log density of each kernel for one parameter, shape (point, kernel); 0 where inactive.

        Args:
            points: units, shape (point, parameter).
            parameter: position of the parameter.
        """
        here, centres, bandwidth = (
            points[:, parameter, None],
            self.centres[None, :, parameter],
            self.bandwidth[parameter],
        )
        if count := self.categories[parameter]:
            own = self._own_weight()[parameter]
            density = np.where(np.abs(here - centres) * count < 0.5, math.log(own * count + 1 - own), math.log(1 - own))
        else:
            inside = cdf((1 - centres) / bandwidth) - cdf(-centres / bandwidth)
            density = -0.5 * ((here - centres) / bandwidth) ** 2
            density -= np.log(bandwidth * inside) + 0.5 * math.log(2 * math.pi)
        inactive = np.isnan(here) | np.isnan(centres)
        return np.where(inactive, 0.0, density) if inactive.any() else density

    def log_mixture(self, points: Array) -> Array:
        """Log density of the mixture over all parameters jointly, shape (point,)."""
        joint = np.zeros((len(points), len(self.centres) + 1))  # the last kernel is the prior
        for parameter in range(points.shape[1]):
            joint[:, :-1] += self.log(points, parameter)
        return _log_mean(joint, self.shares)

    def log_marginals(self, points: Array) -> Array:
        """Log density of the mixture for each parameter separately, shape (point, parameter)."""
        prior = np.zeros((len(points), 1))
        kernels = [np.hstack([self.log(points, parameter), prior]) for parameter in range(points.shape[1])]
        return np.column_stack([_log_mean(logarithms, self.shares) for logarithms in kernels])


def _log_mean(logarithms: Array, shares: Array) -> Array:
    """The logarithm of the weighted mean of exp(``logarithms``) in each row."""
    highest = logarithms.max(axis=1, keepdims=True)
    return np.log(np.exp(logarithms - highest) @ shares) + highest[:, 0]


def goodness(trials: int) -> Array:
    """The degrees to which the best trials are good, the best first: evenly spaced between 1 and 0."""
    count = min(max(2, math.ceil(GOOD * trials)), MOST_GOOD, trials)
    return 1 - (np.arange(count) + 0.5) / max(1, count)


@algorithm("tpe", settings=TPESettings, earlier=True)
def tpe(ask: Ask[TPESettings]) -> list[Suggestion]:
    """For each index, the candidate with the highest ratio of the density of good trials to that of bad ones."""
    evidence = Evidence.from_ask(ask)
    if not evidence.suffices(ask.settings.startup):
        return opening(ask, evidence)
    features = Features(ask.space)
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        alone = searched_alone(features, index, MOST_ALONE)
        branch = least_searched(features, np.vstack([evidence.units, evidence.pending])) if alone else None
        above, below = densities(features, evidence, branch)
        candidates = features.snap(above.draw(ask.settings.candidates, rng))
        if ask.settings.independent:
            candidates = _recombined(features, candidates, above, below)
        ratio = above.log_mixture(candidates) - below.log_mixture(candidates)
        outside = np.zeros(len(candidates)) if branch is None else ~in_branch(candidates, branch)
        chosen = evidence.take(candidates[np.lexsort((-ratio, outside))], rng)  # first those in the branch
        if chosen is None:
            break
        suggestions.append(Suggestion(index, chosen))
    return suggestions


def densities(features: Features, evidence: Evidence, branch: Branch | None) -> tuple[Density, Density]:
    """The densities of the good and of the bad trials; with a branch, those of the trials in this branch."""
    units, losses, pending, dimensions = evidence.units, evidence.losses, evidence.pending, len(features.space)
    if branch is not None:
        inside = in_branch(units, branch)
        units, losses, pending = units[inside], losses[inside], pending[in_branch(pending, branch)]
        dimensions = active(branch)
    ranked, good = units[np.argsort(losses, kind="stable")], goodness(len(losses))
    bad = np.ones(len(ranked) + len(pending))
    bad[: len(good)] -= good
    above = Density.at(ranked[: len(good)], features.categories, dimensions, good)
    return above, Density.at(np.vstack([ranked, pending]), features.categories, dimensions, bad)


def _recombined(features: Features, candidates: Array, above: Density, below: Density) -> Array:
    """The candidates, preceded by a point that combines the best value of each parameter."""
    ratio = above.log_marginals(candidates) - below.log_marginals(candidates)
    ratio = np.where(np.isnan(candidates), -np.inf, ratio)
    best = candidates[np.argmax(ratio, axis=0), np.arange(candidates.shape[1])]
    return np.vstack([features.snap(best[None]), candidates])
