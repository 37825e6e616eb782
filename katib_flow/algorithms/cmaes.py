"""CMA-ES: a normal distribution that learns where to search, how far, and along which directions.

Papers: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; integers and categories after Hamano et al.,
"CatCMA with Margin", GECCO 2025, both of the library cmaes; restarts after Auger and Hansen, CEC 2005 (IPOP), and
Hansen, GECCO 2009 workshop (BIPOP).
Departs from them: a generation is the next trials in the order of their index, whichever distribution they were drawn
from, so that no worker waits for the last trial of a generation; the strategy sees ranks only, so that a failed trial
is simply the worst. An inactive parameter keeps a coordinate, which drifts. Parameters with two values are treated as
unordered. The search begins at the best trial of earlier experiments.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.distinct import Known
from katib_flow.algorithms.features import FINE, Array
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import marked
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial, Value
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter, Parameter
from katib_flow.spec.space import SearchSpace

if TYPE_CHECKING:
    from cmaes import CatCMAwM

ATTEMPTS = 16  # consecutive samples that are already known, before a random new point is taken instead
CONVERGED = 1e-3  # a run has converged if its generation's standard deviation is below this share of the range
LEAST_POPULATION = 4


class CMAESSettings(Settings):
    """Settings of ``cmaes``."""

    sigma: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Initial standard deviation, as a share of each parameter's range on its scale."""
    population: Annotated[int, Field(ge=LEAST_POPULATION)] | None = None
    """Number of trials in a generation; by default 4 + 3 ln(parameters)."""
    restart_strategy: Literal["none", "ipop", "bipop"] = "ipop"
    """The run after a converged one: none; with twice the population (ipop); or large and small in turn (bipop)."""


@dataclass(frozen=True)
class Axes:
    """The parameters of a space by kind: real, stepped, unordered or constant."""

    space: SearchSpace

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of every parameter, in the order of the space."""
        return [_kind(parameter) for parameter in self.space.parameters.values()]

    def positions(self, kind: str) -> NDArray[np.intp]:
        """Positions of the parameters of one kind in the space."""
        return np.flatnonzero([own_kind == kind for own_kind in self.kinds])

    @cached_property
    def ordered(self) -> NDArray[np.intp]:
        """Positions of the parameters that the normal distribution covers: first the real, then the stepped ones."""
        return np.concatenate([self.positions("real"), self.positions("stepped")])

    def units(self, solution: "CatCMAwM.Solution") -> Array:
        """A sample as a point of the unit cube, shape (parameter,)."""
        units = np.full(len(self.space), 0.5)
        for kind, values in (("real", solution.x), ("stepped", solution.z)):
            if values is not None:
                units[self.positions(kind)] = values
        if solution.c is not None:
            units[self.positions("unordered")] = (np.argmax(solution.c, axis=1) + 0.5) / self._sizes("unordered")
        return units

    def one_hot(self, assignment: dict[str, Value]) -> NDArray[np.bool_] | None:
        """The categories of an assignment, shape (unordered, largest size); the first one if inactive.

        None if the space has no unordered parameters.
        """
        sizes = self._sizes("unordered")
        if not len(sizes):
            return None
        units = np.nan_to_num(self.space.encode(assignment)[self.positions("unordered")], nan=0.0)
        return (units * sizes).astype(int)[:, None] == np.arange(sizes.max())[None, :]

    def _sizes(self, kind: str) -> NDArray[np.int64]:
        parameters = list(self.space.parameters.values())
        return np.array([parameters[position].size for position in self.positions(kind)], dtype=np.int64)

    def optimizer(self, mean: Array, sigma: float, population: int) -> "CatCMAwM":
        """A new distribution with a mean in the unit cube, shape (ordered,)."""
        from cmaes import CatCMAwM

        parameters = list(self.space.parameters.values())
        stepped = [parameters[position] for position in self.positions("stepped")]
        steps = [[parameter.unit(value) for value in parameter.values()] for parameter in stepped]
        return CatCMAwM(
            x_space=[[0.0, 1.0]] * len(self.positions("real")) or None,
            z_space=steps or None,
            c_space=self._sizes("unordered").tolist() or None,
            population_size=population,
            mean=mean,
            sigma=sigma,
            cov=np.eye(len(mean)),
        )


def _kind(parameter: Parameter) -> str:
    size = parameter.size
    if size is None or size > FINE:
        return "real"
    if size == 1:
        return "constant"
    return "unordered" if isinstance(parameter, CategoricalParameter) or size == 2 else "stepped"


def _check(experiment: Experiment, settings: CMAESSettings) -> Iterator[SpecError]:
    space = search_space(experiment)
    if space.parameters and not len(Axes(space).ordered):
        need = "a number or an ordinal with three values or more, because cmaes moves a mean; tpe and gp do without"
        yield SpecError("parameters", "categories only", need)


@dataclass
class Run:
    """One run of the strategy, from its start until it has converged.

    Attributes:
        number: 0 for the first run; each restart adds one.
        doublings: how often the population of large runs has been doubled so far.
        spent: number of trials used, by whether the run's population is large.
    """

    axes: Axes
    number: int
    population: int
    optimizer: "CatCMAwM"
    large: bool = True
    doublings: int = 0
    spent: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    best: float = math.inf
    stale: int = 0  # generations since the best loss was reached
    converged: bool = False

    def tell(self, members: Sequence[Trial], losses: Sequence[float]) -> None:
        """Update the distribution by the ranks of one generation's losses; of equal losses the older ranks first."""
        ranks = np.argsort(np.argsort(losses, kind="stable"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the library warns if all trials of a generation are equal
            self.optimizer.tell(
                [(self._solution(trial), float(rank)) for trial, rank in zip(members, ranks, strict=True)]
            )
        self.spent[self.large] += len(members)
        self.stale = 0 if min(losses) < self.best else self.stale + 1
        self.best = min(self.best, *losses)
        spread = np.std([_point(trial) for trial in members], axis=0)
        patience = 10 + math.ceil(30 * len(self.axes.space) / self.population)  # Hansen, 2009, section 2.2
        self.converged = bool((spread < CONVERGED).all()) or self.stale > patience

    def _solution(self, trial: Trial) -> "CatCMAwM.Solution":
        from cmaes import CatCMAwM

        return CatCMAwM.Solution(c=self.axes.one_hot(dict(trial.assignment)), _v_raw=_point(trial))


def _point(trial: Trial) -> Array:
    """The sampled point; unlike the assignment, it may lie outside the bounds."""
    return np.array(trial.suggestion.info["point"], dtype=float)


@algorithm("cmaes", settings=CMAESSettings, check=_check, earlier=True)
def cmaes(ask: Ask[CMAESSettings]) -> list[Suggestion]:
    """Samples of the distribution that results from the history."""
    axes = Axes(ask.space)
    run = _replayed(ask, axes)
    known = Known.from_ask(ask, (trial for trial in ask.history if trial.assignment in ask.space))
    suggestions: list[Suggestion] = []
    for index in ask.indices:
        drawn = _drawn(ask, axes, run, index, known)
        if drawn is None:
            break
        assignment, point = drawn
        known.take(assignment, index)
        suggestions.append(Suggestion(index, assignment, info={"run": run.number, "point": point}))
    return suggestions


def _drawn(
    ask: Ask[CMAESSettings], axes: Axes, run: Run, index: int, known: Known
) -> tuple[dict[str, Value], list[float]] | None:
    """A new assignment and its sampled point; None if the space is used up."""
    run.optimizer.reseed_rng(np.random.SeedSequence((ask.seed, index)).generate_state(4))  # type: ignore[arg-type]
    solutions = (run.optimizer.ask() for _ in range(ATTEMPTS))
    if proposal := known.first((ask.space.decode(axes.units(solution)), solution) for solution in solutions):
        return proposal[0], [float(x) for x in np.asarray(proposal[1]._v_raw)]
    assignment = known.drawn(ask.rng(index))
    if assignment is None:
        return None
    return assignment, np.nan_to_num(ask.space.encode(assignment), nan=0.5)[axes.ordered].tolist()


def _replayed(ask: Ask[CMAESSettings], axes: Axes) -> Run:
    """The current run, after all complete generations of the history."""
    run = started(ask, axes, None)
    while True:
        members = marked(ask.history, run=run.number)
        for first in range(0, len(members) - run.population + 1, run.population):
            generation = members[first : first + run.population]
            if not all(trial.state.over for trial in generation):
                return run
            run.tell(generation, _losses(ask, generation))
            if run.converged and ask.settings.restart_strategy != "none":
                break
        else:
            return run
        run = started(ask, axes, run)


def _losses(ask: Ask[CMAESSettings], trials: Sequence[Trial]) -> list[float]:
    values = [trial.observed(ask.objective.metric) for trial in trials]
    return [math.inf if value is None else ask.objective.loss(value) for value in values]


def started(ask: Ask[CMAESSettings], axes: Axes, before: Run | None) -> Run:
    """Start the first run, or the run that follows one that has converged."""
    dimensions = len(axes.ordered) + len(axes.positions("unordered"))
    usual = ask.settings.population or 4 + math.floor(3 * math.log(dimensions))
    if before is None:
        mean = _beginning(ask, axes)
        return Run(axes, 0, usual, axes.optimizer(mean, ask.settings.sigma, usual))
    number, doublings = before.number + 1, before.doublings
    rng = np.random.default_rng((ask.seed, number, 1))
    mean, u = rng.random(len(axes.ordered)), float(rng.random())
    large = ask.settings.restart_strategy == "ipop" or before.spent[True] <= before.spent[False]
    if large:
        doublings += 1
        population, sigma = usual * 2**doublings, ask.settings.sigma
    else:  # Hansen, 2009, section 2.1
        population = max(LEAST_POPULATION, math.floor(usual * (0.5 * 2**doublings) ** (u * u)))
        sigma = ask.settings.sigma * 10 ** (-2 * u)
    optimizer = axes.optimizer(mean, sigma, population)
    return Run(axes, number, population, optimizer, large, doublings, before.spent)


def _beginning(ask: Ask[CMAESSettings], axes: Axes) -> Array:
    """The best trial of earlier experiments, or the middle of the space; shape (ordered,)."""
    known = ask.experiment.ranked([trial for trial in ask.earlier if trial.assignment in ask.space])
    units = ask.space.encode(known[0].assignment) if known else np.full(len(ask.space), 0.5)
    return np.nan_to_num(units, nan=0.5)[axes.ordered]
