"""Hyperband: brackets of successive halving, from many trials with a small budget to a few with the full budget.

Paper: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018, Algorithm 1.
Departs from it: a bracket does not wait for the one before it, so that no worker is idle while a rung's last trial
runs; and a promoted trial continues from its parent's checkpoint. A rung waits for killed trials, which will be started
again; failed ones are not promoted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from katib_flow.algorithms.random import drawn
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import Rung, by_rung, hyperband_brackets, needs_budget
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import Assignment

Members = Mapping[tuple[int, int], list[Trial]]
Draw = Callable[[int], Assignment | None]


class HyperbandSettings(Settings):
    """Settings of ``hyperband``."""

    rounds: Annotated[int, Field(ge=1)] = 1
    """How many times all brackets run; then the experiment ends."""


def _check(experiment: Experiment, settings: HyperbandSettings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "hyperband")


@algorithm("hyperband", settings=HyperbandSettings, check=_check, ends=True, budget=True)
def hyperband(ask: Ask[HyperbandSettings]) -> list[Suggestion]:
    """The next trials of the brackets; fewer while rungs wait for results, none when all brackets have run."""
    assert ask.experiment.budget is not None
    brackets = hyperband_brackets(ask.experiment.budget) * ask.settings.rounds
    return first_of(ask, halving(ask, brackets, lambda position: drawn(ask, position)))


def first_of(ask: Ask[Any], proposals: Iterator[Suggestion]) -> list[Suggestion]:
    """As many proposals as were requested, with the requested indices."""
    pairs = zip(ask.indices, islice(proposals, len(ask.indices)), strict=False)
    return [replace(suggestion, index=index) for index, suggestion in pairs]


def halving(ask: Ask[Any], brackets: Iterable[tuple[Rung, ...]], draw: Draw) -> Iterator[Suggestion]:
    """The trials that can start now, in the order of the brackets.

    Ends at the first bracket for which there is no new assignment.

    Args:
        draw: gives a new assignment for a position among all draws; None if the space is used up.
    """
    members, position = by_rung(ask.history), 0
    for number, rungs in enumerate(brackets):
        begun = (number, 0) in members
        for proposal in _bracket(ask, number, rungs, position, members, draw):
            begun = True
            yield proposal
        if not begun:
            return
        position += rungs[0].size


def _bracket(
    ask: Ask[Any], number: int, rungs: tuple[Rung, ...], position: int, members: Members, draw: Draw
) -> Iterator[Suggestion]:
    below = members.get((number, 0), [])
    waiting = False
    for proposal in _begun(number, rungs[0], position, below, draw):  # one at a time: a draw may be expensive
        waiting = True
        yield proposal
    for level, rung in enumerate(rungs[1:], start=1):
        if waiting or not all(trial.state.over for trial in below):
            return
        here = members.get((number, level), [])
        promoted = list(_promoted(ask, number, level, rung, below, here))
        yield from promoted
        below, waiting = here, bool(promoted)


def _begun(number: int, rung: Rung, position: int, members: list[Trial], draw: Draw) -> Iterator[Suggestion]:
    there = {trial.suggestion.info["slot"] for trial in members}
    for slot in range(rung.size):
        if slot not in there and (assignment := draw(position + slot)) is not None:
            yield Suggestion(0, assignment, budget=rung.budget, info={"bracket": number, "rung": 0, "slot": slot})


def _promoted(
    ask: Ask[Any], number: int, level: int, rung: Rung, below: list[Trial], members: list[Trial]
) -> Iterator[Suggestion]:
    there = {trial.suggestion.parent for trial in members}
    for slot, parent in enumerate(ask.experiment.ranked(below)[: rung.size]):
        if parent.index not in there:
            info = {"bracket": number, "rung": level, "slot": slot}
            yield Suggestion(0, parent.assignment, budget=rung.budget, parent=parent.index, info=info)
