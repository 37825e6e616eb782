"""Bayesian optimisation of several objectives by the expected hypervolume improvement.

Papers: Emmerich et al., "Single- and Multiobjective Evolutionary Optimization Assisted by Gaussian Random Field
Metamodels", IEEE Trans. Evol. Comput. 2006 (the criterion); Yang et al., "Efficient computation of expected hypervolume
improvement using box decomposition algorithms", J. Global Optimization 2019 (exact, for any number of objectives).
Departs from them: each objective has a Gaussian process of its own; the front is that of the models' means at the
trials, not of noisy losses; boxes come from slices, and a front that needs too many is thinned out where it is crowded.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from katib_flow import pareto
from katib_flow.algorithms.evidence import Evidence, opening
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.gaussian_process import GaussianProcess, Priors, fitted
from katib_flow.algorithms.gp import MOST, Acquisition, GPSettings, informative, maximised, standardised, winsorised
from katib_flow.algorithms.nsga2 import survivors
from katib_flow.algorithms.registry import Ask
from katib_flow.history import History, State, Suggestion, Trial

MOST_BOXES = 512
MARGIN = 0.1  # distance of the reference point from the worst of the front, as a share of the front's range


def boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """The region that no point of a front dominates, up to the reference, as disjoint boxes.

    Args:
        front: shape (n, objective), lower is better.

    Returns:
        The lower and upper corners, shape (box, objective); a side that is open below has -infinity.
    """
    inside = front[(front < reference).all(axis=1)]
    if len(reference) == 1:
        return np.full((1, 1), -np.inf), np.array([[inside.min() if len(inside) else reference[0]]])
    levels = np.unique(inside[:, -1])
    lows, highs = np.append(-np.inf, levels), np.append(levels, reference[-1])
    lower: list[Array] = []
    upper: list[Array] = []
    for low, high in zip(lows, highs, strict=True):
        below = inside[inside[:, -1] <= low, :-1]
        corners = boxes(below[~pareto.dominated(below, below)], reference[:-1])
        lower.append(np.column_stack([corners[0], np.full(len(corners[0]), low)]))
        upper.append(np.column_stack([corners[1], np.full(len(corners[1]), high)]))
    return np.vstack(lower), np.vstack(upper)


def expected_volume(mean: Array, deviation: Array, lower: Array, upper: Array) -> Array:
    """The expected volume of some boxes that independent normal losses dominate, shape (n,).

    The volume of a box that y dominates is the product over objectives of (upper - y)+ - (lower - y)+; for independent
    objectives its expectation is the product of the expectations.

    Args:
        mean, deviation: shape (n, objective).
        lower, upper: shape (box, objective).
    """

    def below(edge: Array) -> Array:
        """The expectation of (edge - y)+, shape (n, box, objective)."""
        z = (edge[None] - mean[:, None]) / deviation[:, None]
        finite = np.maximum(z, -40.0)  # further out the density underflows
        density = np.exp(-0.5 * finite * finite) / np.sqrt(2 * np.pi)
        return np.where(z < -40.0, 0.0, deviation[:, None] * (finite * special.ndtr(finite) + density))

    return np.sum(np.prod(np.maximum(below(upper) - below(lower), 0.0), axis=2), axis=1)


def reference_of(front: Array, losses: Array) -> Array:
    """The reference point: a little worse than the worst of the front, and no better than the median loss."""
    worst, best = front.max(axis=0), front.min(axis=0)
    return np.maximum(worst + MARGIN * (worst - best), np.median(losses, axis=0))


def thinned(front: Array) -> Array:
    """The most isolated points of a front, as many as give at most ``MOST_BOXES`` boxes."""
    size, width = len(front), front.shape[1]
    while size > 2 and special.comb(size + width - 1, width - 1) > MOST_BOXES:
        size -= 1
    return front[np.argsort(-pareto.crowding(front), kind="stable")[:size]]


@dataclass
class Evidences:
    """The evidence for the model of each objective; a trial without a value of one objective failed in all of them."""

    per_objective: list[Evidence]

    @classmethod
    def from_ask(cls, ask: Ask[Any]) -> "Evidences":
        """The trials of an experiment and of earlier ones, once for each objective."""
        names = [objective.metric for objective in ask.experiment.objective]

        def sound(trial: Trial) -> Trial:
            failed = trial.state.over and any(trial.observed(name) is None for name in names)
            return replace(trial, state=State.FAILED) if failed else trial

        history, earlier = (History(tuple(map(sound, trials))) for trials in (ask.history, ask.earlier))
        experiments = [
            ask.experiment.model_copy(update={"objective": (single,)}) for single in ask.experiment.objective
        ]
        asks = [replace(ask, experiment=single, history=history, earlier=earlier) for single in experiments]
        return cls([Evidence.from_ask(single) for single in asks])


def proposed(ask: Ask[GPSettings]) -> list[Suggestion]:
    """For each index, the point with the highest expected improvement if the points before it turn out as expected."""
    per_objective, features = Evidences.from_ask(ask).per_objective, Features(ask.space)
    evidence = per_objective[0]
    if not any(single.suffices(ask.settings.startup) for single in per_objective):
        return opening(ask, evidence)
    losses = np.column_stack([evidence.losses for evidence in per_objective])
    seen = informative(np.argsort(survivors(losses, len(losses))).astype(float))
    units = evidence.units[seen]
    priors = Priors.in_dimensions(features.dimensions)
    models = [
        fitted(features.expand(units), standardised(winsorised(column)), features.group, priors)
        for column in losses[seen].T
    ]
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        rng = ask.rng(index)
        pending = evidence.pending[-MOST:]
        believing = [model.believing(features.expand(pending)) for model in models]
        means = np.column_stack([model.posterior(model.inputs)[0] for model in believing])
        best = np.flatnonzero(~pareto.dominated(means, means))
        value = improvement(believing, features, means[best], reference_of(means[best], means))
        points = maximised(value, features, np.vstack([units, pending])[best], ask.settings.candidates, rng)
        if (chosen := evidence.take(points, rng)) is None:
            break
        suggestions.append(Suggestion(index, chosen))
    return suggestions


def improvement(models: list[GaussianProcess], features: Features, front: Array, reference: Array) -> Acquisition:
    """The expected hypervolume improvement on a front, at snapped units."""
    lower, upper = boxes(thinned(front), reference)
    chunk = max(1, 200_000 // lower.size)  # points at a time, to keep memory to a few megabytes

    def value(units: Array) -> Array:
        posteriors = [model.posterior(features.expand(units)) for model in models]
        mean = np.column_stack([mean for mean, _ in posteriors])
        deviation = np.sqrt(np.column_stack([variance for _, variance in posteriors]))
        starts = range(0, len(units), chunk)
        return np.concatenate(
            [expected_volume(mean[at : at + chunk], deviation[at : at + chunk], lower, upper) for at in starts]
        )

    return value
