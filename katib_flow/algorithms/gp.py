"""Bayesian optimisation: a Gaussian process of the loss, and the point with the highest expected improvement on it.

Papers: Jones et al., "Efficient Global Optimization of Expensive Black-Box Functions", 1998, section 4.1; its logarithm
after Ament et al., "Unexpected Improvements to Expected Improvement", NeurIPS 2023, section 4.1.
Departs from them: improvement is on the lowest mean of the model, not on the lowest noisy loss; bad losses are cut off
before the model sees them, because how bad a point is says little about where the best one lies; of a long history the
model sees a part, so that its time stays flat. In a conditional space up to half of the suggestions search one branch
by a model of its own (``branches``): a few poor points make the model of all branches too sure that one is poor.
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

MOST = 256  # trials that the model sees
SCALES = (0.3, 0.1, 0.03, 0.01)  # of steps from the best trials, as shares of the range
BEHIND = 1e9  # more than any two logarithms of an improvement are apart
FAMILIES, ROUNDS, CHILDREN = 8, 8, 12  # of the local search

Acquisition = Callable[[Array], Array]
"""Values at snapped units, shape (n, parameter) -> (n,); higher is better."""


class GPSettings(Settings):
    startup: Annotated[int, Field(ge=2)] = 8
    """Trials of a Sobol sequence before the model is asked."""
    candidates: Annotated[int, Field(ge=1)] = 1024
    """Points spread over the space at which the expected improvement is looked up, before a local search."""


@algorithm(
    "gp",
    settings=GPSettings,
    several=True,
    aliases=("bayesianoptimization", "skopt-bayesian-optimization"),
    earlier=True,
)
def gp(ask: Ask[GPSettings]) -> list[Suggestion]:
    """For each index the point of highest expected improvement, given that those before it come out as expected.

    Of several objectives, that of the hypervolume (ehvi).
    """
    with one_thread():
        if len(ask.experiment.objective) > 1:
            from katib_flow.algorithms import ehvi  # it is built of what is here

            return ehvi.proposed(ask)
        return _proposed(ask)


def _proposed(ask: Ask[GPSettings]) -> list[Suggestion]:
    evidence = Evidence.of(ask)
    if evidence.scored < ask.settings.startup:
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
        improvement = expected(model.believing(features.expand(evidence.pending[-MOST:])), features)
        best = ranked
        if searched_alone(features, index):
            branch = least_searched(features, np.vstack([evidence.units, evidence.pending]))
            best, alone = _in_branch(features, branch, ranked, losses[order], evidence.pending[-MOST:])
            improvement = _first(branch, alone or improvement, improvement)
        found = maximised(improvement, features, best[:5], ask.settings.candidates, rng)
        if (chosen := evidence.take(found, rng)) is None:
            break
        suggestions.append(Suggestion(index, chosen))
    return suggestions


def _in_branch(
    features: Features, branch: Branch, ranked: Array, losses: Array, pending: Array
) -> tuple[Array, Acquisition | None]:
    """The trials of a branch, and the expected improvement on them by a model of their own; None without trials.

    Args:
        ranked: units of all trials, the best first.
        losses: of these trials.
        pending: units of the trials without a result.
    """
    inside = in_branch(ranked, branch)
    if not inside.any():
        return ranked[inside], None
    units, outputs = ranked[inside], standardised(winsorised(losses[inside]))
    model = fitted(features.expand(units), outputs, features.group, Priors.in_dimensions(max(1, active(branch))))
    waiting = features.expand(pending[in_branch(pending, branch)])
    return units, expected(model.believing(waiting), features)


def _first(branch: Branch, inside: Acquisition, outside: Acquisition) -> Acquisition:
    """The one value in a branch, and behind all of these the other: a branch may have no new point left."""
    return lambda units: np.where(in_branch(units, branch), inside(units), outside(units) - BEHIND)


def informative(losses: Array) -> NDArray[np.intp]:
    """Positions of at most ``MOST`` trials: the best half of them, and an even spread of the others."""
    order = np.argsort(losses, kind="stable")
    best, others = np.split(order, [MOST // 2])
    spread = others[np.unique(np.linspace(0, len(others) - 1, MOST // 2).astype(np.int64))] if len(others) else others
    return np.sort(np.concatenate([best, spread]))


def winsorised(losses: Array) -> Array:
    """Losses cut off above the median by one and a half times the spread of the better half."""
    median = np.median(losses)
    return np.minimum(losses, median + 1.5 * (median - losses.min()))


def standardised(losses: Array) -> Array:
    spread = losses.std()
    return (losses - losses.mean()) / (spread if spread > 0 else 1.0)


def expected(model: GaussianProcess, features: Features) -> Acquisition:
    """The logarithm of the expected improvement on the lowest mean at any trial."""
    lowest = model.posterior(model.inputs)[0].min()

    def improvement(units: Array) -> Array:
        mean, variance = model.posterior(features.expand(units))
        return log_improvement((lowest - mean) / np.sqrt(variance)) + 0.5 * np.log(variance)

    return improvement


def log_improvement(z: Array) -> Array:
    """log(pdf(z) + z cdf(z)) of the standard normal, without cancellation below 0 (Ament et al., equation 9)."""
    above, below = np.maximum(z, 0.0), np.minimum(z, 0.0)
    direct = np.log(np.exp(-0.5 * above * above) / np.sqrt(2 * np.pi) + above * special.ndtr(above))
    share = below * np.sqrt(np.pi / 2) * special.erfcx(-below / np.sqrt(2))  # z cdf(z) / pdf(z), above -1
    log_pdf = -0.5 * below * below - 0.5 * np.log(2 * np.pi)
    return np.where(z > 0, direct, log_pdf + np.log1p(np.maximum(share, -1 + 1e-16)))


def maximised(value: Acquisition, features: Features, best: Array, count: int, rng: np.random.Generator) -> Array:
    """Points by their value, the highest first: spread evenly, near the best trials, and climbed from there.

    Args:
        best: units of the best trials.
        count: how many are spread evenly.
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
        highest, each = np.argmax(reached, axis=1), np.arange(len(climbing))
        climbing, heights = families[each, highest], reached[each, highest]
    points, values = np.vstack([climbing, points]), np.concatenate([heights, values])
    return points[np.argsort(-values, kind="stable")]


def mutated(features: Features, centres: Array, scale: float, rng: np.random.Generator) -> Array:
    """Steps from points: about two coordinates of each are moved, a category to any other."""
    count, dimensions = centres.shape
    moved = rng.random((count, dimensions)) < max(0.2, min(1.0, 2.0 / dimensions))
    moved[np.arange(count), rng.integers(dimensions, size=count)] = True
    anywhere = rng.random((count, dimensions))
    here = np.where(np.isnan(centres), anywhere, centres)  # what becomes active starts anywhere
    stepped = np.abs(here + scale * rng.normal(size=(count, dimensions)))
    reflected = np.where(stepped > 1, 2 - stepped, stepped)
    return features.snap(np.where(moved, np.where(features.categories > 0, anywhere, reflected), here))


def _sobol(space: SearchSpace, count: int, rng: np.random.Generator) -> Array:
    from scipy.stats import qmc  # slow to import, and only needed now

    power = max(0, (count - 1).bit_length())
    return np.asarray(qmc.Sobol(len(space), scramble=True, rng=rng).random_base2(power))[:count]
