"""BOHB: Hyperband whose brackets start with assignments drawn near the good trials, by a density model as in TPE.

Paper: Falkner et al., "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, Algorithm 2 and
section 3.2.
Departs from it: the densities are those of tpe (kernels truncated at the bounds, the prior as an additional kernel,
inactive parameters unknown); pending trials count as bad, so that parallel draws spread out; brackets continue until a
limit, and do not wait for one another. A promoted trial continues from its parent's checkpoint.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.evidence import Evidence
from katib_flow.algorithms.features import Array, Features
from katib_flow.algorithms.hyperband import first_of, halving
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import hyperband_brackets, needs_budget
from katib_flow.algorithms.tpe import Density
from katib_flow.errors import SpecError
from katib_flow.history import History, Suggestion
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import Assignment


class BOHBSettings(Settings):
    """Settings of ``bohb``; the symbols of the paper stand in parentheses."""

    random_fraction: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Share of the draws that are random and ignore the model (rho)."""
    top: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the trials that count as good (q)."""
    candidates: Annotated[int, Field(ge=1)] = 64
    """Number of points drawn near the good trials; the best one is suggested (N_s)."""
    bandwidth_factor: Annotated[float, Field(gt=0)] = 3.0
    """Factor by which the kernels are widened to draw these points (b_w)."""
    min_points: Annotated[int, Field(ge=1)] | None = None
    """Number of trials that each density needs (N_min); by default, the number of parameters plus one."""

    def n_min(self, parameters: int) -> int:
        """N_min for a number of parameters."""
        return self.min_points or parameters + 1


def _check(experiment: Experiment, settings: BOHBSettings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "bohb")


@algorithm("bohb", settings=BOHBSettings, check=_check, earlier=True, budget=True)
def bohb(ask: Ask[BOHBSettings]) -> list[Suggestion]:
    """The next trials of the brackets, one bracket after another."""
    assert ask.experiment.budget is not None
    brackets = hyperband_brackets(ask.experiment.budget)
    sampler = Sampler.from_ask(ask)
    return first_of(ask, halving(ask, (brackets[number % len(brackets)] for number in count()), sampler.draw))


@dataclass
class Sampler:
    """Draws the assignments with which brackets begin.

    Attributes:
        evidence: the trials with the modelled budget; points tried with any budget count as taken.
        good: the density of the good trials; None while no budget has enough trials.
        bad: units of the bad trials, shape (n, parameter).
    """

    ask: Ask[BOHBSettings]
    features: Features
    evidence: Evidence
    good: Density | None
    bad: Array

    @classmethod
    def from_ask(cls, ask: Ask[BOHBSettings]) -> "Sampler":
        """Model the largest budget that has enough trials."""
        features, budget = Features(ask.space), modelled_budget(ask)
        evidence = Evidence.from_ask(seen_at(ask, budget))
        evidence.exclude(ask.history)
        if budget is None:
            return cls(ask, features, evidence, None, evidence.units[:0])
        good, bad = split(evidence.losses, ask.settings.top, ask.settings.n_min(len(ask.space)))
        density = Density.at(evidence.units[good], features.categories, len(ask.space))
        return cls(ask, features, evidence, density, evidence.units[bad])

    def draw(self, position: int) -> Assignment | None:
        """A new assignment: random, or the one with the highest ratio l(x) / g(x); None if the space is used up."""
        rng = self.ask.rng(position)
        random = rng.random() < self.ask.settings.random_fraction
        nothing = np.zeros((0, len(self.ask.space)))  # so that any new point is taken
        return self.evidence.take(nothing if random or self.good is None else self._best(self.good, rng), rng)

    def _best(self, good: Density, rng: np.random.Generator) -> Array:
        wide = replace(good, bandwidth=good.bandwidth * self.ask.settings.bandwidth_factor)
        bad = Density.at(np.vstack([self.bad, self.evidence.pending]), self.features.categories, len(self.ask.space))
        candidates = self.features.snap(wide.draw(self.ask.settings.candidates, rng))
        ratio = good.log_mixture(candidates) - bad.log_mixture(candidates)
        return candidates[np.argsort(-ratio, kind="stable")]


def modelled_budget(ask: Ask[BOHBSettings]) -> float | None:
    """The largest budget with N_min + 2 trials that have a value (Algorithm 2, line 3); None if no budget has."""
    least = ask.settings.n_min(len(ask.space)) + 2
    values = [
        trial.suggestion.budget
        for trial in (*ask.earlier, *ask.history)
        if trial.observed(ask.objective.metric) is not None and trial.assignment in ask.space
    ]
    return max((budget for budget in set(values) if budget is not None and values.count(budget) >= least), default=None)


def seen_at(ask: Ask[BOHBSettings], budget: float | None) -> Ask[BOHBSettings]:
    """The same question, reduced to the trials with one budget and those without a result yet."""
    own = [trial for trial in ask.history if trial.suggestion.budget == budget or not trial.state.over]
    earlier = [trial for trial in ask.earlier if trial.suggestion.budget == budget]
    return replace(ask, history=History(tuple(own)), earlier=History(tuple(earlier)))


def split(losses: Array, top: float, least: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the good and of the bad trials (equation 3); if there are few trials, some are both."""
    order = np.argsort(losses, kind="stable")
    good = max(least, math.ceil(top * len(order)))
    return order[:good], order[-max(least, len(order) - good) :]
