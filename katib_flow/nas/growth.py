"""Networks made by edits from the networks of earlier trials, for the systems that modify networks.

A candidate is a network together with its parent trial and the edits that made it, so that it can inherit the parent's
weights.
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
"""Draws edits of a network. The result may be empty, or impossible for this network."""


class GrowthSettings(SystemSettings):
    """Settings shared by the systems that modify a network."""

    max_parameters: Count = 50_000
    """Largest number of weights of a network."""


def check_start(experiment: Experiment, settings: GrowthSettings, *, bare: bool = False) -> Iterator[SpecError]:
    """Errors in the space of a system that modifies a network.

    Args:
        bare: True if the initial network may have no convolution.
    """
    need = "a space without slots, which is the initial network, such as chain"
    if experiment.architecture is None or (space := architectures(experiment)) is None:
        yield SpecError("architecture", NOTHING, need)
    elif space.slots:
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif space.input.tokens is not None:
        need = "an initial network that reads images, such as chain"
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif not (bare or convolutions(space.initial)):
        need = "an initial network with a convolution, such as chain with its default layers"
        yield SpecError("architecture.space", experiment.architecture.space, need)
    elif (least := space.initial.parameters) > (most := settings.max_parameters):
        need = f"at least {least}, the number of weights of the initial network"
        yield SpecError("algorithm.settings.max_parameters", most, need)


@dataclass(frozen=True)
class Candidate:
    """A network that may be suggested.

    Attributes:
        parent: the trial whose network it was made from; None if it was made from the initial network.
        edits: the edits that made it.
    """

    topology: Topology
    parent: Trial | None = None
    edits: tuple[Fields, ...] = ()

    def edited(self, edits: Sequence[Fields], max_parameters: int) -> "Candidate | None":
        """The candidate after further edits; None without edits, if they do not fit, or with too many weights."""
        try:
            child = modify(self.topology, edits) if edits else None
        except InvalidSpec:
            return None
        if child is None or child.parameters > max_parameters:
            return None
        return Candidate(child, self.parent, (*self.edits, *edits))

    def suggestion(self, index: int, assignment: Assignment, weights: Weights, **info: object) -> Suggestion:
        """A suggestion to try the network.

        Args:
            assignment: the values of the parameters, which are not part of the network.
            weights: the initial weights: new ones (``fresh``), the parent's as changed by the edits (``inherit``), or
                those tensors of the parent that have the same ``shape``.
            info: more entries of the suggestion's ``info``.
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
        start: the initial network.
        evaluated: the networks with a result; the last ``earlier`` of them belong to earlier experiments.
        losses: their losses, lower is better, shape (n,).
        pending: the networks without a result yet, new suggestions included.
        tried: the hashes of all networks of this experiment.
    """

    start: Candidate
    evaluated: list[Candidate]
    losses: Array
    pending: list[Candidate]
    tried: set[str]
    earlier: int = 0

    @classmethod
    def from_ask(cls, ask: Ask[Any]) -> "Grown":
        """The networks of the history, and of earlier experiments, whose weights cannot be inherited."""
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
        """Mark a candidate as pending."""
        self.pending.append(candidate)
        self.tried.add(candidate.topology.hash)

    def first(self, rng: np.random.Generator, draw: Draw, max_parameters: int) -> Candidate | None:
        """The next network as long as there are no results: the initial one, then random edits of it, or None."""
        candidates = [self.start]
        for _ in range(PATIENCE):
            if candidates[-1].topology.hash not in self.tried:
                return candidates[-1]
            base = candidates[int(rng.integers(len(candidates)))]
            more = base.edited(draw(base.topology, rng), max_parameters)
            candidates += [] if more is None else [more]
        return None

    def new(self, candidates: Iterable[Candidate | None]) -> list[Candidate]:
        """The candidates that are new, each network once."""
        hashes = set(self.tried)
        fresh: list[Candidate] = []
        for candidate in candidates:
            if candidate is not None and candidate.topology.hash not in hashes:
                hashes.add(candidate.topology.hash)
                fresh.append(candidate)
        return fresh


def convolutions(network: Topology) -> list[FlatEdge]:
    """The edges of a network with a convolution, dead edges excluded."""
    return [
        edge
        for edge in network.flat.live.edges
        if not edge.dead and any(isinstance(layer, Conv) for layer in edge.layers)
    ]


def _alike(one: Topology, other: Topology) -> bool:
    """Whether two networks have the same input and output, and so may be compared."""
    return (one.input, one.output) == (other.input, other.output)


def network_of(trial: Trial) -> Topology:
    """The network of a trial, which must have one; equal networks are the same object."""
    return _parsed(dumps(trial.suggestion.topology))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Topology:
    return Topology.parse(loads(text))


def one_of(among: Sequence[Any], rng: np.random.Generator) -> Any:
    """A uniformly random element.

    Raises:
        IndexError: ``among`` is empty.
    """
    if not among:
        raise IndexError("nothing to draw from")
    return among[int(rng.integers(len(among)))]


def most_telling(losses: Array, most: int) -> NDArray[np.intp]:
    """Positions of at most ``most`` trials, in ascending order: half of them the best, the others spread in rank."""
    order = np.argsort(losses, kind="stable")
    best, others = np.split(order, [max(1, most // 2)])
    count = min(len(others), most - len(best))
    spread = others[np.unique(np.linspace(0, len(others) - 1, count).astype(np.int64))] if count > 0 else others[:0]
    return np.sort(np.concatenate([best, spread]))
