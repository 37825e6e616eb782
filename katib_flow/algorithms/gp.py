"""Bayesian optimisation: a Gaussian process models the loss, and the expected improvement selects the next point.

Papers: Jones et al., "Efficient Global Optimization of Expensive Black-Box Functions", 1998, section 4.1; its logarithm
after Ament et al., "Unexpected Improvements to Expected Improvement", NeurIPS 2023, section 4.1; less of it where
another noisy loss teaches little, after Huang et al., "Global Optimization of Stochastic Black-Box Systems via
Sequential Kriging Meta-Models", J. Global Optimization, 2006 (the augmented expected improvement); and at first less of
it near the bounds, after Hvarfner et al., "PiBO: Augmenting Acquisition Functions with User Beliefs for Bayesian
Optimization", ICLR 2022, section 3.
Departs from them: improvement is measured from the lowest mean of the model, not from the lowest noisy loss; high
losses are truncated, because how bad a point is says little about where the best one lies; the model is fitted to at
most ``MOST`` trials, so that its time stays bounded. In a conditional space up to half of the suggestions search one
branch with a model of its own (``branches``), because the model of all branches gives up a branch after a few poor
points.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special

from katib_flow.algorithms.branches import Branch, active, in_branch, least_searched, searched_alone
from katib_flow.algorithms.evidence import Evidence, opening
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.gaussian_process import GaussianProcess, Priors, fitted
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.threads import one_thread
from katib_flow.history import Suggestion
from katib_flow.spec.space import SearchSpace

MOST = 256  # the largest number of trials that the model is fitted to
SCALES = (0.3, 0.1, 0.03, 0.01)  # standard deviations of steps from the best trials, as shares of the range
INSIDE = 4.0  # the weight of the belief that the optimum lies inside the ranges, as a number of trials
LEAST_BELIEF = 0.1  # the belief at a bound, relative to the middle of the range
BEHIND = 1e9  # larger than the difference of any two logarithms of an improvement
FAMILIES, ROUNDS, CHILDREN = 8, 8, 12  # starting points, rounds and steps per round of the local search

Acquisition = Callable[[Array], Array]
"""A function of snapped units, shape (n, parameter) -> (n,); higher is better."""


class GPSettings(Settings):
    """Settings of ``gp``."""

    startup: Annotated[int, Field(ge=2)] = 8
    """Number of trials from a Sobol sequence before the model is used; more while all losses are equal."""
    candidates: Annotated[int, Field(ge=1)] = 1024
    """Number of points, spread over the space, at which the expected improvement is computed before a local search."""


@algorithm(
    "gp",
    settings=GPSettings,
    several=True,
    aliases=("bayesianoptimization", "skopt-bayesian-optimization"),
    earlier=True,
)
def gp(ask: Ask[GPSettings]) -> list[Suggestion]:
    """For each index, the point with the highest expected improvement if the points before it turn out as expected.

    For several objectives, the improvement is that of the hypervolume (``ehvi``).
    """
    with one_thread():
        if len(ask.experiment.objective) > 1:
            from katib_flow.algorithms import ehvi  # here, because it imports this module

            return ehvi.proposed(ask)
        return _proposed(ask)


def _proposed(ask: Ask[GPSettings]) -> list[Suggestion]:
    evidence = Evidence.from_ask(ask)
    if not evidence.suffices(ask.settings.startup):
        return opening(ask, evidence)
    features, seen = Features(ask.space), informative(evidence.losses)
    units, losses = evidence.units[seen], evidence.losses[seen]
    priors = Priors.in_dimensions(features.dimensions)
    model = fitted(features.expand(units), standardised(winsorised(losses)), features.group, priors)
    order = np.argsort(losses, kind="stable")
    ranked = units[order]
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        believing = model.believing(features.expand(evidence.pending[-MOST:]))
        improvement = expected(believing, features.expand, augmented=True)
        best = ranked
        if searched_alone(features, index):
            branch = least_searched(features, np.vstack([evidence.units, evidence.pending]))
            best, alone = _in_branch(features, branch, ranked, losses[order], evidence.pending[-MOST:])
            improvement = _first(branch, alone or improvement, improvement)
        value = believed_inside(improvement, features, len(losses))
        points = maximised(value, features, best[:5], ask.settings.candidates, rng)
        if (chosen := evidence.take(points, rng)) is None:
            break
        suggestions.append(Suggestion(index, chosen))
    return suggestions


def _in_branch(
    features: Features, branch: Branch, ranked: Array, losses: Array, pending: Array
) -> tuple[Array, Acquisition | None]:
    """The units of the trials in a branch, and the expected improvement by a model of these; None if it has no trials.

    Args:
        ranked: units of all trials, the best first.
        losses: the losses of these trials.
        pending: units of the trials without a result.
    """
    inside = in_branch(ranked, branch)
    if not inside.any():
        return ranked[inside], None
    units, outputs = ranked[inside], standardised(winsorised(losses[inside]))
    model = fitted(features.expand(units), outputs, features.group, Priors.in_dimensions(max(1, active(branch))))
    waiting = features.expand(pending[in_branch(pending, branch)])
    return units, expected(model.believing(waiting), features.expand, augmented=True)


def _first(branch: Branch, inside: Acquisition, outside: Acquisition) -> Acquisition:
    """``inside`` within a branch; outside it ``outside``, but lower than any value inside.

    Points outside still count, because the branch may have no new point left.
    """
    return lambda units: np.where(in_branch(units, branch), inside(units), outside(units) - BEHIND)


def informative(losses: Array) -> NDArray[np.intp]:
    """Positions of at most ``MOST`` trials: the ``MOST`` / 2 best ones, and others at even distances in rank."""
    order = np.argsort(losses, kind="stable")
    best, others = np.split(order, [MOST // 2])
    spread = others[np.unique(np.linspace(0, len(others) - 1, MOST // 2).astype(np.int64))] if len(others) else others
    return np.sort(np.concatenate([best, spread]))


def winsorised(losses: Array) -> Array:
    """Losses truncated at the median plus one and a half times the distance from the median to the best."""
    median = np.median(losses)
    return np.minimum(losses, median + 1.5 * (median - losses.min()))


def standardised(losses: Array) -> Array:
    """Losses with mean 0 and standard deviation 1; all 0 if they are equal."""
    spread = losses.std()
    return (losses - losses.mean()) / (spread if spread > 0 else 1.0)


def expected(
    model: GaussianProcess,
    inputs: Callable[[Array], Array],
    seen: Array | None = None,
    *,
    augmented: bool = False,
) -> Acquisition:
    """The logarithm of the expected improvement on the lowest posterior mean.

    Args:
        inputs: the model's inputs for units.
        seen: units of the points whose lowest mean counts; by default, all inputs of the model.
        augmented: whether improvement counts the less, the less another noisy loss teaches (``log_lesson``).
    """
    lowest = model.posterior(model.inputs if seen is None else inputs(seen))[0].min()

    def improvement(units: Array) -> Array:
        mean, variance = model.posterior(inputs(units))
        value = log_improvement((lowest - mean) / np.sqrt(variance)) + 0.5 * np.log(variance)
        return value + log_lesson(variance, np.exp(model.theta[-1])) if augmented else value

    return improvement


def log_lesson(variance: Array, noise: float) -> Array:
    """log(1 - tau / sqrt(s^2 + tau^2)) for variances s^2 of the model and tau^2 of the noise (Huang et al.).

    It keeps the search from repeating what it knows up to noise.
    """
    known = noise / (variance + noise)
    return np.log1p(-known) - np.log1p(np.sqrt(known))  # log(1 - sqrt(known)) without cancellation


def believed_inside(value: Acquisition, features: Features, trials: int) -> Acquisition:
    """A logarithmic acquisition plus the log density of a belief about the optimum, times ``INSIDE`` / ``trials``.

    A model is most uncertain at the bounds, and these are most of the volume in many dimensions; but users choose
    ranges that contain the optimum. Each active parameter that is a number adds the log density of Beta(2, 2).
    """
    ordered = features.categories == 0

    def weighted(units: Array) -> Array:
        numbers = units[:, ordered]
        belief = np.maximum(4 * numbers * (1 - numbers), LEAST_BELIEF)  # relative to the middle of the range
        return value(units) + INSIDE / trials * np.nansum(np.log(belief), axis=1)

    return weighted


def log_improvement(z: Array) -> Array:
    """log(pdf(z) + z cdf(z)) of the standard normal, without cancellation for z < 0 (Ament et al., equation 9)."""
    above, below = np.maximum(z, 0.0), np.minimum(z, 0.0)
    direct = np.log(np.exp(-0.5 * above * above) / np.sqrt(2 * np.pi) + above * special.ndtr(above))
    share = below * np.sqrt(np.pi / 2) * special.erfcx(-below / np.sqrt(2))  # z cdf(z) / pdf(z), above -1
    log_pdf = -0.5 * below * below - 0.5 * np.log(2 * np.pi)
    return np.where(z > 0, direct, log_pdf + np.log1p(np.maximum(share, -1 + 1e-16)))


def maximised(value: Acquisition, features: Features, best: Array, count: int, rng: np.random.Generator) -> Array:
    """Candidates in descending order of value: spread evenly, near the best trials, and from a local search.

    Args:
        best: units of the best trials, shape (n, parameter).
        count: number of evenly spread points.
    """
    spread = features.snap(_sobol(features.space, count, rng))
    near = [mutated(features, np.repeat(best, 20, axis=0), scale, rng) for scale in SCALES]
    points = np.vstack([spread, *near])
    values = value(points)
    top = np.argsort(-values, kind="stable")[:FAMILIES]
    climbing, heights = points[top], values[top]
    for scale in 0.2 * 0.6 ** np.arange(ROUNDS):
        steps = mutated(features, np.repeat(climbing, CHILDREN, axis=0), scale, rng)
        families = np.concatenate([climbing[:, None], steps.reshape(len(climbing), CHILDREN, -1)], axis=1)
        reached = np.concatenate([heights[:, None], value(steps).reshape(len(climbing), CHILDREN)], axis=1)
        highest, rows = np.argmax(reached, axis=1), np.arange(len(climbing))
        climbing, heights = families[rows, highest], reached[rows, highest]
    points, values = np.vstack([climbing, points]), np.concatenate([heights, values])
    return points[np.argsort(-values, kind="stable")]


def mutated(features: Features, centres: Array, scale: float, rng: np.random.Generator) -> Array:
    """One step from each point: about two coordinates move; a category changes to any of its values."""
    count, dimensions = centres.shape
    moved = rng.random((count, dimensions)) < max(0.2, min(1.0, 2.0 / dimensions))
    moved[np.arange(count), rng.integers(dimensions, size=count)] = True
    anywhere = rng.random((count, dimensions))
    here = np.where(np.isnan(centres), anywhere, centres)  # a parameter that becomes active starts anywhere
    stepped = np.abs(here + scale * rng.normal(size=(count, dimensions)))
    reflected = np.where(stepped > 1, 2 - stepped, stepped)
    return features.snap(np.where(moved, np.where(features.categories > 0, anywhere, reflected), here))


def _sobol(space: SearchSpace, count: int, rng: np.random.Generator) -> Array:
    from scipy.stats import qmc  # slow to import, so only if needed

    power = max(0, (count - 1).bit_length())
    return np.asarray(qmc.Sobol(len(space), scramble=True, rng=rng).random_base2(power))[:count]
