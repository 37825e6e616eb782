"""Networks that edits make of those of earlier trials: what a system that modifies networks begins with and suggests.

A candidate is a network with the trial it was made of and the edits that made it, so that its weights can be inherited
through them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps, loads
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.registry import Ask
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Kind, Origin, Suggestion, Trial
from katib_flow.models.edits import Fields
from katib_flow.models.flat import FlatEdge
from katib_flow.models.layers import Conv
from katib_flow.models.morphisms import modify
from katib_flow.models.topology import Topology
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.space import Assignment

Array = NDArray[np.float64]
Weights = Literal["inherit", "shape", "fresh"]
Draw = Callable[[Topology, np.random.Generator], Sequence[Fields]]
"""Draws edits of a network; they may not fit, and there may be none."""


class GrowthSettings(SystemSettings):
    """What the settings of systems have in common that modify one network."""

    max_parameters: Count = 50_000
    """The most weights of a network."""


def check_start(experiment: Experiment, settings: GrowthSettings, *, bare: bool = False) -> Iterator[SpecError]:
    """What is wrong with the space of a system that modifies one network.

    Args:
        bare: whether the network to start from may have no convolution.
    """
    need = "a space without slots, the network to start from, such as chain"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
    elif space.slots:
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif space.input.tokens is not None:
        need = "a network to start from that reads images, such as chain"
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif not (bare or convolutions(space.initial)):
        need = "a network to start from with a convolution, such as chain with the layers that it has by itself"
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif (least := space.initial.parameters) > (most := settings.max_parameters):
        need = f"at least {least}, the weights of the network to start from"
        yield SpecError("algorithm.settings.max_parameters", most, need)


@dataclass(frozen=True)
class Candidate:
    """A network that may be tried.

    Attributes:
        parent: the trial of whose network it was made; None where that is the network to start from.
        edits: that made it.
    """

    topology: Topology
    parent: Trial | None = None
    edits: tuple[Fields, ...] = ()

    def edited(self, edits: Sequence[Fields], max_parameters: int) -> "Candidate | None":
        """With further edits; None where there are none, where they do not fit, or where it has too many weights."""
        try:
            child = modify(self.topology, edits) if edits else None
        except InvalidSpec:
            return None
        if child is None or child.parameters > max_parameters:
            return None
        return Candidate(child, self.parent, (*self.edits, *edits))

    def suggestion(self, index: int, assignment: Assignment, weights: Weights, **info: object) -> Suggestion:
        """To try it.

        Args:
            assignment: the parameters beside it.
            weights: whether it begins with fresh weights, with what the edits make of its parent's (``inherit``), or
                with those of its parent's that have the same ``shape``.
        """
        parent = None if self.parent is None else self.parent.index
        lineage = {"edits": () if parent is None else self.edits, "weights": weights}
        return Suggestion(
            index,
            assignment,
            parent=None if weights == "fresh" else parent,
            topology=self.topology.model_copy(update=lineage).to_dict(),
            origin=Origin() if parent is None else Origin(Kind.MODIFY, (parent,)),
            info=info,
        )


@dataclass
class Grown:
    """The networks of an experiment so far.

    Attributes:
        start: the network to start from.
        evaluated: those with a result, of which the last ``earlier`` are of earlier experiments.
        losses: theirs, lower is better, shape (n,).
        pending: those without a result yet, and those that are about to be tried.
        tried: the hashes of all.
    """

    start: Candidate
    evaluated: list[Candidate]
    losses: Array
    pending: list[Candidate]
    tried: set[str]
    earlier: int = 0

    @classmethod
    def of(cls, ask: Ask[Any]) -> "Grown":
        """Networks of earlier experiments are no trial's here: nothing can be inherited from them."""
        assert ask.architectures is not None
        start, metric = ask.architectures.initial, ask.objective.metric
        completed = [trial for trial in ask.history.completed(metric) if trial.suggestion.topology]
        before = [trial for trial in ask.earlier.completed(metric) if trial.suggestion.topology]
        before = [trial for trial in before if _alike(network_of(trial), start)]
        losses = [ask.objective.loss(trial.observations[metric]) for trial in (*completed, *before)]
        mine = [Candidate(network_of(trial), trial) for trial in completed]
        return cls(
            Candidate(start),
            [*mine, *(Candidate(network_of(trial)) for trial in before)],
            np.array(losses, dtype=float),
            [Candidate(network_of(trial), trial) for trial in ask.history.open() if trial.suggestion.topology],
            {network_of(trial).hash for trial in ask.history if trial.suggestion.topology},
            len(before),
        )

    def take(self, candidate: Candidate) -> None:
        """From now on it is being tried."""
        self.pending.append(candidate)
        self.tried.add(candidate.topology.hash)

    def first(self, rng: np.random.Generator, draw: Draw, max_parameters: int) -> Candidate | None:
        """What to begin with: the network to start from, then what drawn edits make of it; None where all are known."""
        candidates = [self.start]
        for _ in range(PATIENCE):
            if candidates[-1].topology.hash not in self.tried:
                return candidates[-1]
            base = candidates[int(rng.integers(len(candidates)))]
            more = base.edited(draw(base.topology, rng), max_parameters)
            candidates += [] if more is None else [more]
        return None

    def new(self, candidates: Iterable[Candidate | None]) -> list[Candidate]:
        """Those that nobody has tried, each network once."""
        hashes = set(self.tried)
        fresh: list[Candidate] = []
        for candidate in candidates:
            if candidate is not None and candidate.topology.hash not in hashes:
                hashes.add(candidate.topology.hash)
                fresh.append(candidate)
        return fresh


def convolutions(network: Topology) -> list[FlatEdge]:
    """The edges of a network with a convolution that something comes through."""
    return [
        edge
        for edge in network.flat.live.edges
        if not edge.dead and any(isinstance(layer, Conv) for layer in edge.layers)
    ]


def _alike(one: Topology, other: Topology) -> bool:
    """Whether two networks classify the same images into the same classes, for all that can be told."""
    return (one.input, one.output) == (other.input, other.output)


def network_of(trial: Trial) -> Topology:
    """The network of a trial that has one; the same object for the same network."""
    return _parsed(dumps(trial.suggestion.topology))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Topology:
    return Topology.parse(loads(text))


def one_of(among: Sequence[Any], rng: np.random.Generator) -> Any:
    """One of some things, each as likely.

    Raises:
        IndexError: there are none.
    """
    if not among:
        raise IndexError("nothing to draw from")
    return among[int(rng.integers(len(among)))]


def most_telling(losses: Array, most: int) -> NDArray[np.intp]:
    """Positions of at most so many trials, in their order: half of them the best, and an even spread of the others."""
    order = np.argsort(losses, kind="stable")
    best, others = np.split(order, [max(1, most // 2)])
    count = min(len(others), most - len(best))
    spread = others[np.unique(np.linspace(0, len(others) - 1, count).astype(np.int64))] if count > 0 else others[:0]
    return np.sort(np.concatenate([best, spread]))
