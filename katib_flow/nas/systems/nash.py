"""Hill climbing by network morphisms: children start with the function of their parent; the best is the next parent.

Paper: Elsken et al., "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017, section 4 and
Algorithm 1: of ``children`` (n_neigh, 8) one is the current network itself, and each of the others is the result of
``morphisms`` (n_NM, 5) random network morphisms (section 3: a new layer, a wider layer, a skip by concatenation or by
addition); each inherits weights and is trained for a few epochs (17), with a learning rate that falls from 0.05 to 0
along a cosine; the best becomes the current network, for ``steps`` (5, or 8) rounds, and is finally trained for long.
Departs from it: the parent competes with its children also by its own result, so that the incumbent never gets worse;
the long training needs a budget, of which children get the minimum and the last trial the maximum; a skip by addition
is a learnt convolution that starts at zero, not a weighted mean; a network has at most ``max_parameters``. Every trial
has a cosine of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.history import Suggestion, Trial
from katib_flow.nas.growth import Candidate, Grown, GrowthSettings, check_start, network_of
from katib_flow.nas.morphing import morphism
from katib_flow.spec.model import Count

KERNELS, FACTORS = (3, 5), (2, 4)  # kernel sizes of new layers, and factors of widening


class NashSettings(GrowthSettings):
    """Settings of ``nash``; the symbols of the paper stand last."""

    paper: ClassVar = {"children": 8, "morphisms": 5, "max_parameters": 1 << 25}
    children: Annotated[int, Field(ge=2)] = 4
    """Number of children of a step, the first of which is the current network, trained further (n_neigh)."""
    morphisms: Count = 3
    """Number of morphisms from the current network to a child (n_NM)."""
    steps: Count = 5
    """Number of steps (n_steps)."""


@algorithm(
    "nash", settings=NashSettings, check=check_start, ends=True, strategy="modification", scope="network", budget=True
)
def nash(ask: Ask[NashSettings]) -> list[Suggestion]:
    """The initial network, then all children of a step together, when those of the step before have ended."""
    assert ask.architectures is not None
    if ask.experiment.best(ask.history) is None:  # the initial network has no result, or has failed
        start, budget = Candidate(ask.architectures.initial), _budget(ask, 0)
        first = [] if ask.history.open() else ask.indices[:1]
        begun = (start.suggestion(index, ask.space.draw(ask.rng(index)), "fresh", step=0) for index in first)
        return [replace(suggestion, budget=budget) for suggestion in begun]
    step = max(map(_step, ask.history))
    members = [trial for trial in ask.history if _step(trial) == step]
    if len(members) >= _children_of(ask, step):
        if not all(trial.state.over for trial in members):
            return []
        step, members = step + 1, []
    current = ask.experiment.best(trial for trial in ask.history if _step(trial) < step)
    assert current is not None
    return list(_suggested(ask, current, step, range(len(members), _children_of(ask, step))))


def _children_of(ask: Ask[NashSettings], step: int) -> int:
    """The number of children of a step: 0 for the start, and 1 after the last step if there is a long training."""
    if 0 < step <= ask.settings.steps:
        return ask.settings.children
    return int(step == ask.settings.steps + 1 and ask.experiment.budget is not None)


def _suggested(ask: Ask[NashSettings], current: Trial, step: int, numbers: range) -> Iterator[Suggestion]:
    """The children of a step with some numbers, from 0; child 0 is the current network."""
    parent, tried = Candidate(network_of(current), current), Grown.from_ask(ask).tried
    for index, number in zip(ask.indices, numbers, strict=False):
        child = parent if number == 0 else _child(parent, tried, ask.settings, ask.rng(index))
        tried.add(child.topology.hash)
        suggestion = child.suggestion(index, current.assignment, "inherit", step=step)
        yield replace(suggestion, budget=_budget(ask, step))


def _child(parent: Candidate, tried: set[str], settings: NashSettings, rng: np.random.Generator) -> Candidate:
    """The parent after some random morphisms; a new network unless many attempts give only known ones."""
    child = parent
    for _ in range(PATIENCE):
        child = grown(parent, settings.morphisms, rng, settings.max_parameters)
        if child.topology.hash not in tried:
            break
    return child


def grown(parent: Candidate, count: int, rng: np.random.Generator, max_parameters: int) -> Candidate:
    """A network after ``count`` random morphisms of its parent, with the same function.

    Morphisms that do not fit, or that exceed ``max_parameters``, are drawn again; after ``PATIENCE`` consecutive ones
    the network is returned with fewer morphisms.
    """
    child = parent
    for _ in range(count):
        drawn = (morphism(child.topology, rng, kernels=KERNELS, factors=FACTORS) for _ in range(PATIENCE))
        larger = next((fits for edits in drawn if (fits := child.edited(edits, max_parameters))), None)
        if larger is None:
            break
        child = larger
    return child


def _step(trial: Trial) -> int:
    return int(str(trial.suggestion.info.get("step", 0)))


def _budget(ask: Ask[NashSettings], step: int) -> float | None:
    budget = ask.experiment.budget
    return None if budget is None else budget.max if step > ask.settings.steps else budget.min
