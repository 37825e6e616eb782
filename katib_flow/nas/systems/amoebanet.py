"""Regularised evolution: mutate the best of a few random rivals among the youngest trials; the oldest always die.

Paper: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019, Algorithm 1. There P is
100 and S is 25; the space is ``pairs`` with 5 nodes.
Departs from it: only the last P trials are read, so that older ones are dead without any state to keep; evolution is
asynchronous, with a new mutant whenever a trial can start; no network is tried twice, so there is no identity mutation.
Parameters outside the architecture evolve in the same way.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE, Known
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial
from katib_flow.nas.policy import needs_slots
from katib_flow.nas.population import best_rival, drawn, youngest
from katib_flow.nas.settings import SystemSettings
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import Assignment


class AmoebaNetSettings(SystemSettings):
    """Settings of ``amoebanet``; the symbols of the paper stand first."""

    paper: ClassVar = {"population": 100, "sample": 25}
    population: Annotated[int, Field(ge=2)] = 20
    """P: number of youngest trials that are alive. Until as many have ended, architectures are random."""
    sample: Annotated[int, Field(ge=1)] = 10
    """S: number of rivals, drawn with replacement, of which the best is mutated."""


def _check(experiment: Experiment, settings: AmoebaNetSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "pairs or cell", architecture=False)


@algorithm(
    "amoebanet",
    settings=AmoebaNetSettings,
    check=_check,
    aliases=("regularized-evolution",),
    strategy="modification",
    scope="cell",
)
def amoebanet(ask: Ask[AmoebaNetSettings]) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    alive, known = youngest(ask, ask.settings.population), Known.from_ask(ask)
    return known.suggestions(ask.indices, lambda index: _mutant(ask, index, alive, known) or drawn(ask, index, known))


def _mutant(ask: Ask[AmoebaNetSettings], index: int, alive: Sequence[Trial], known: Known) -> Suggestion | None:
    """A new mutant of the best of S rivals; None while the population grows, or if all mutants are known."""
    if len(alive) < ask.settings.population:
        return None
    rng = ask.rng(index)

    def mutant() -> tuple[Assignment, Trial]:
        parent = best_rival(ask, alive, ask.settings.sample, rng)
        return ask.space.mutate(parent.assignment, rng), parent

    new = known.first(mutant() for _ in range(PATIENCE))
    return Suggestion(index, new[0], origin=Origin(Kind.MODIFY, (new[1].index,))) if new else None
