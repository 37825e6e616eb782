"""Hyperband: brackets of successive halving, from many trials on a small budget to a few on the whole.

Paper: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018, Algorithm 1.
Departs from it: a bracket does not wait for the one before, so that no worker is idle while a rung's last trial runs;
and a promoted trial continues from its parent's checkpoint. Killed trials are waited for, failed ones not promoted.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Annotated

from pydantic import Field

from katib_flow.algorithms.random import random
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.algorithms.rungs import Rung, best_first, hyperband_brackets, marked, needs_budget, over
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial
from katib_flow.spec.experiment import Experiment


class HyperbandSettings(Settings):
    rounds: Annotated[int, Field(ge=1)] = 1
    """How often all brackets are run; then the experiment ends."""


def _check(experiment: Experiment, settings: HyperbandSettings) -> Iterator[SpecError]:
    yield from needs_budget(experiment, "hyperband")


@algorithm("hyperband", settings=HyperbandSettings, check=_check, ends=True)
def hyperband(ask: Ask[HyperbandSettings]) -> list[Suggestion]:
    """The next trials of the brackets; fewer while a rung waits for its last results, none when all have run."""
    proposals = islice(_proposals(ask), len(ask.indices))
    return [replace(each, index=index) for index, each in zip(ask.indices, proposals, strict=False)]


def _proposals(ask: Ask[HyperbandSettings]) -> Iterator[Suggestion]:
    """What can start now, in the order of the brackets."""
    assert ask.experiment.budget is not None
    position = 0  # of a bracket's first trial in the stream of random draws, so that the order of ends changes none
    for number, rungs in enumerate(hyperband_brackets(ask.experiment.budget) * ask.settings.rounds):
        yield from _bracket(ask, number, rungs, position)
        position += rungs[0].size


def _bracket(ask: Ask[HyperbandSettings], number: int, rungs: tuple[Rung, ...], position: int) -> Iterator[Suggestion]:
    members = marked(ask.history, bracket=number, rung=0)
    waiting = list(_drawn(ask, number, rungs[0], position, members))
    yield from waiting
    for level, rung in enumerate(rungs[1:], start=1):
        if waiting or not all(over(trial) for trial in members):
            return
        below, members = members, marked(ask.history, bracket=number, rung=level)
        waiting = list(_promoted(ask, number, level, rung, below, members))
        yield from waiting


def _drawn(
    ask: Ask[HyperbandSettings], number: int, rung: Rung, position: int, members: list[Trial]
) -> Iterator[Suggestion]:
    there = {trial.suggestion.info["slot"] for trial in members}
    for slot in range(rung.size):
        if slot not in there:
            draw = replace(ask, indices=range(position + slot, position + slot + 1), settings=Settings())
            for drawn in random(draw):  # none where a finite space is used up
                yield replace(drawn, budget=rung.budget, info={"bracket": number, "rung": 0, "slot": slot})


def _promoted(
    ask: Ask[HyperbandSettings], number: int, level: int, rung: Rung, below: list[Trial], members: list[Trial]
) -> Iterator[Suggestion]:
    there = {trial.suggestion.parent for trial in members}
    for slot, parent in enumerate(best_first(ask.objective, below)[: rung.size]):
        if parent.index not in there:
            info = {"bracket": number, "rung": level, "slot": slot}
            yield Suggestion(0, parent.assignment, budget=rung.budget, parent=parent.index, info=info)
