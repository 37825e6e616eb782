"""Hill climbing by network morphisms: children that compute what their parent does, trained a little; the best is next.

Paper: Elsken et al., "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017, section 4 and
Algorithm 1: of ``children`` (n_neigh, 8) one is the current network as it is and each other one ``morphisms`` (n_NM, 5)
random network morphisms of it (section 3: a layer more, a wider layer, a skip by concatenation or by addition); each
goes on from the weights it inherits for a few epochs (17), the learning rate falling from 0.05 to 0 along a cosine, and
the best is the next to be changed, for ``steps`` (5, or 8) rounds. Then that one is trained for long.
Departs from it: the parent competes with its children by what it reached itself, too, so that the incumbent never gets
worse; the long training needs a budget, of which children get the least and the last trial the most; a skip by addition
is a convolution of zeros that learns, not a weighted mean. The cosine is the trial's own: its trainer begins it anew.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial
from katib_flow.models.edits import edge_of, shape_after
from katib_flow.models.layers import Conv
from katib_flow.models.morphisms import modify
from katib_flow.models.topology import Topology
from katib_flow.nas.growth import Grown, one_of
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING

Draw = Callable[[Topology, np.random.Generator], dict[str, Any]]


class NashSettings(Settings):
    children: Annotated[int, Field(ge=2)] = 8
    """Of a step; the first is the current network, trained further."""
    morphisms: Count = 5
    """That a child is away from the current network."""
    steps: Count = 5
    """After which the search ends."""
    max_parameters: Count | None = None
    """Children with more are not proposed; without it networks grow as they come, as in the paper."""


def _check(experiment: Experiment, settings: NashSettings) -> Iterator[SpecError]:
    need = "a network to start from: a space without slots and with a convolution, such as chain"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
        return
    if space.parameters or not _convolutions(space.initial):
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif settings.max_parameters is not None and space.initial.parameters > settings.max_parameters:
        count = space.initial.parameters
        need = f"at least the {count:,} parameters of the network to start from"
        yield SpecError("algorithm.settings.max_parameters", settings.max_parameters, need)


@algorithm("nash", settings=NashSettings, check=_check, ends=True, strategy="modification", scope="network")
def nash(ask: Ask[NashSettings]) -> list[Suggestion]:
    """The start, then the children of a step at once, when all of the step before have ended."""
    assert ask.architectures is not None
    if ask.experiment.best(ask.history) is None:  # there is no start yet, or it has failed
        start, assignment = ask.architectures.initial.to_dict(), ask.space.draw(ask.rng(0))
        first = [] if ask.history.open() else ask.indices[:1]
        return [
            Suggestion(index, assignment, budget=_budget(ask, 0), topology=start, info={"step": 0}) for index in first
        ]
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
    """How many trials a step has; where there is a budget, there is one after the last step, for the long training."""
    if 0 < step <= ask.settings.steps:
        return ask.settings.children
    return int(step == 0 or (step == ask.settings.steps + 1 and ask.experiment.budget is not None))


def _suggested(ask: Ask[NashSettings], current: Trial, step: int, numbers: range) -> Iterator[Suggestion]:
    """The children of a step with some numbers, from 0; of the step after the last, the current network alone."""
    assert current.suggestion.topology is not None
    parent = Topology.parse(current.suggestion.topology).model_copy(update={"edits": ()})
    tried = Grown.of(ask).tried
    for index, number in zip(ask.indices, numbers, strict=False):
        child = parent if number == 0 else _child(parent, tried, ask.settings, ask.rng(index))
        tried.add(child.hash)
        yield Suggestion(
            index,
            current.assignment,
            budget=_budget(ask, step),
            parent=current.index,
            topology=child.to_dict(),
            origin=Origin(Kind.MODIFY, (current.index,)),
            info={"step": step},
        )


def _child(parent: Topology, tried: set[str], settings: NashSettings, rng: np.random.Generator) -> Topology:
    """The parent after some random morphisms, another network than any before where one comes up."""
    child = parent
    for _ in range(PATIENCE):
        child = grown(parent, settings.morphisms, rng, settings.max_parameters)
        if child.hash not in tried:
            break
    return child


def grown(parent: Topology, count: int, rng: np.random.Generator, most: int | None = None) -> Topology:
    """A network that computes what its parent does, after so many random morphisms; it lists them.

    Args:
        most: parameters that it may have. Morphisms that would exceed it, or that do not fit, are drawn again, and
            after ``PATIENCE`` of them in a row there are fewer.
    """
    child, edits, in_vain = parent, list[dict[str, Any]](), 0
    while len(edits) < count and in_vain < PATIENCE:
        in_vain += 1
        draw = MORPHISMS[int(rng.integers(len(MORPHISMS)))]
        try:
            edit = draw(child, rng)
            larger = modify(child, [edit])
        except (InvalidSpec, SpecError, IndexError):
            continue
        if most is None or larger.parameters <= most:
            child, in_vain = larger, 0
            edits.append(edit)
    return child.model_copy(update={"edits": tuple(edits)})


def _deepen(network: Topology, rng: np.random.Generator) -> dict[str, Any]:
    edge = one_of(_convolutions(network), rng)
    return {"edit": "deepen", "edge": edge, "k": int(one_of((3, 5), rng))}


def _widen(network: Topology, rng: np.random.Generator) -> dict[str, Any]:
    """By a factor of 2 or 4."""
    edge = one_of(_convolutions(network), rng)
    width = shape_after(network, edge_of(network, edge))[0]
    return {"edit": "widen", "edge": edge, "to": width * int(one_of((2, 4), rng)), "seed": int(rng.integers(1 << 31))}


def _skip(edit: str) -> Draw:
    def drawn(network: Topology, rng: np.random.Generator) -> dict[str, Any]:
        vertices = list(network.flat.live.vertices)
        src = int(rng.integers(len(vertices)))
        return {"edit": edit, "src": vertices[src], "dst": one_of(vertices[src + 1 :], rng)}

    return drawn


MORPHISMS: Sequence[Draw] = (_deepen, _widen, _skip("concat"), _skip("skip"))
"""What is drawn from, each as often; they raise IndexError where the network has nothing that they fit."""


def _convolutions(network: Topology) -> list[str]:
    return [
        edge.key
        for edge in network.flat.live.edges
        if any(isinstance(layer, Conv) for layer in edge.layers) and "c" in edge.params
    ]


def _step(trial: Trial) -> int:
    return int(str(trial.suggestion.info.get("step", 0)))


def _budget(ask: Ask[NashSettings], step: int) -> float | None:
    budget = ask.experiment.budget
    return None if budget is None else budget.max if step > ask.settings.steps else budget.min
