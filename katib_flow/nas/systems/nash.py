"""Hill climbing by network morphisms: children that compute what their parent does, trained a little; the best is next.

Paper: Elsken et al., "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017, section 4 and
Algorithm 1: of ``children`` (n_neigh, 8) one is the current network as it is and each other one ``morphisms`` (n_NM, 5)
random network morphisms of it (section 3: a layer more, a wider layer, a skip by concatenation or by addition); each
goes on from the weights it inherits for a few epochs (17), the learning rate falling from 0.05 to 0 along a cosine, and
the best is the next to be changed, for ``steps`` (5, or 8) rounds. Then that one is trained for long.
Departs from it: the parent competes with its children by what it reached itself, too, so that the incumbent never gets
worse; the long training needs a budget, of which children get the least and the last trial the most; a skip by addition
is a convolution of zeros that learns, not a weighted mean; a network has at most ``max_parameters``. The cosine is the
trial's own: its trainer begins it anew.
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

KERNELS, FACTORS = (3, 5), (2, 4)  # of a layer more, and by which a layer becomes wider


class NashSettings(GrowthSettings):
    paper: ClassVar = {"children": 8, "morphisms": 5, "max_parameters": 1 << 25}
    children: Annotated[int, Field(ge=2)] = 4
    """Of a step; the first is the current network, trained further."""
    morphisms: Count = 3
    """That a child is away from the current network."""
    steps: Count = 5
    """After which the search ends."""


@algorithm(
    "nash", settings=NashSettings, check=check_start, ends=True, strategy="modification", scope="network", budget=True
)
def nash(ask: Ask[NashSettings]) -> list[Suggestion]:
    """The start, then the children of a step at once, when all of the step before have ended."""
    assert ask.architectures is not None
    if ask.experiment.best(ask.history) is None:  # there is no start yet, or it has failed
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
    """How many children a step has: the start none, and one after the last step, the long training with a budget."""
    if 0 < step <= ask.settings.steps:
        return ask.settings.children
    return int(step == ask.settings.steps + 1 and ask.experiment.budget is not None)


def _suggested(ask: Ask[NashSettings], current: Trial, step: int, numbers: range) -> Iterator[Suggestion]:
    """The children of a step with some numbers, from 0; of the step after the last, the current network alone."""
    parent, tried = Candidate(network_of(current), current), Grown.from_ask(ask).tried
    for index, number in zip(ask.indices, numbers, strict=False):
        child = parent if number == 0 else _child(parent, tried, ask.settings, ask.rng(index))
        tried.add(child.topology.hash)
        suggestion = child.suggestion(index, current.assignment, "inherit", step=step)
        yield replace(suggestion, budget=_budget(ask, step))


def _child(parent: Candidate, tried: set[str], settings: NashSettings, rng: np.random.Generator) -> Candidate:
    """The parent after some random morphisms, another network than any before where one comes up."""
    child = parent
    for _ in range(PATIENCE):
        child = grown(parent, settings.morphisms, rng, settings.max_parameters)
        if child.topology.hash not in tried:
            break
    return child


def grown(parent: Candidate, count: int, rng: np.random.Generator, max_parameters: int) -> Candidate:
    """A network that computes what its parent does, after so many random morphisms.

    Those that would exceed the parameters that it may have, or that do not fit, are drawn again; after ``PATIENCE`` of
    them in a row there are fewer.
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
