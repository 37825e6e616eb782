"""Reinforced evolution: the best of a few rivals is mutated by a policy that learns which mutations help.

Paper: Chen et al., "RENAS: Reinforced Evolutionary Neural Architecture Search", CVPR 2019 (arXiv 1808.00193): a cell's
nodes add two operations on two earlier nodes (here the space ``pairs``); evolution with tournament selection; its
mutation controller, in which a bidirectional LSTM reads the cell, the router chooses the input or operation of a node
to change, the input mutator chooses another node, by attention over the states of earlier nodes, and the operation
mutator another operation; REINFORCE; a child inherits the weights of unchanged parts, and is trained for a few epochs.
The policy is in ``encoder``.
Departs from it: only the last ``population`` trials are alive, so that the policy is the only state; the reward is the
share of trials that are not better, minus a moving mean, so that any objective will do; the router chooses one slot of
the whole network, unless ``route: node``; a mutator never chooses the present value; no trial waits for others, and no
network is trained twice. All slots that are not inputs, other parameters of the experiment included, have an operation
mutator. Of the defaults ``preset: paper`` changes only ``route``, because the numbers of the paper's controller, reward
and tournament could not be confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE, Known
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Suggestion, Trial
from katib_flow.nas.door import Later
from katib_flow.nas.moves import EditLearner, Episode, Move, notes
from katib_flow.nas.policy import LearningSettings, Results, needs_slots, shares
from katib_flow.nas.population import best_rival, drawn, youngest
from katib_flow.nas.vocabulary import Read, SlotTokens, node_of
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.space import Assignment

if TYPE_CHECKING:
    from katib_flow.nas import encoder
else:
    encoder = Later("katib_flow.nas.encoder")


class RenasSettings(LearningSettings):
    """Settings of ``renas``."""

    batch: Count = 4
    lr: Annotated[float, Field(gt=0)] = 0.01
    units: Annotated[int, Field(ge=1, le=512)] = 50
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    entropy: Annotated[float, Field(ge=0)] = 0.1
    population: Annotated[int, Field(ge=2)] = 20
    """Number of youngest trials that are alive. Until as many have ended, networks are random."""
    sample: Annotated[int, Field(ge=1)] = 10
    """Number of rivals, drawn with replacement, of which the best is mutated."""
    route: Literal["network", "node"] = "network"
    """Scope of the router, which chooses one slot to change: in the whole network, or in each of its nodes."""
    paper: ClassVar = {"route": "node"}


def _check(experiment: Experiment, settings: RenasSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "pairs or cell")


def rewards(settings: RenasSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The rewards of some trials: the share of all trials that are not better; 0 for a failed trial."""
    return np.nan_to_num(shares(results, members)).tolist()


@dataclass(frozen=True)
class Mutators:
    """The moves of the router and the mutators, by the tokens of a network.

    Attributes:
        slots: the tokens of all slots.
        sources: the slots that select the node to read.
        route: as in the settings.
    """

    slots: SlotTokens
    sources: frozenset[str]
    route: Literal["network", "node"]

    @classmethod
    def from_ask(cls, ask: Ask[RenasSettings]) -> Mutators:
        """The mutators for the space of an experiment."""
        assert ask.architectures is not None
        return cls(SlotTokens(ask.space), frozenset(ask.architectures.sources), ask.settings.route)

    @cached_property
    def nodes(self) -> list[str]:
        """The nodes that a slot can select."""
        return list(dict.fromkeys(node for slot in sorted(self.sources) for node in self.slots.read_by(slot)))

    @cached_property
    def heads(self) -> dict[str, tuple[str, int]]:
        """Name and size of the operation mutator of each slot; slots with the same values share one."""
        kinds: dict[tuple[str, ...], str] = {}
        values = {slot: tuple(values) for slot, values in self.slots.values.items() if slot not in self.sources}
        return {slot: (kinds.setdefault(names, f"values{len(kinds)}"), len(names)) for slot, names in values.items()}

    def _routes(self, read: Read) -> list[list[int]]:
        """The positions of the slots that the router chooses from, once per slot to change."""
        groups: dict[str, list[int]] = {}
        for position, (slot, _) in enumerate(read):
            if len(self.slots.values[slot]) > 1:
                groups.setdefault(node_of(slot) if self.route == "node" else "", []).append(position)
        return list(groups.values())

    def mutate(self, policy: encoder.EditPolicy, seen: Sequence[int], choose: encoder.Choose) -> None:
        """Choose a slot and a new value for it, once or for each node."""
        states, read = policy.encode(seen).states, self.slots.read(seen)
        for positions in self._routes(read):
            position = positions[choose(policy.logits("router", states[positions])[:, 0])]
            slot, present = read[position]
            if slot in self.sources:
                nodes = [self._state(policy, states, read, node) for node in self.slots.read_by(slot)]
                logits = policy.attention(states[position], nodes)
            else:
                logits = policy.logits(self.heads[slot][0], states[position])
            choose(logits[others(present, len(logits))])

    def _state(self, policy: encoder.EditPolicy, states: Any, read: Read, node: str) -> Any:
        """The mean state of the slots of a node; for a node without slots, such as a cell's input, a learnt state."""
        positions = [position for position, (slot, _) in enumerate(read) if node_of(slot) == node]
        return states[positions].mean(dim=0) if positions else policy.outside[self.nodes.index(node)]

    def changes(self, move: Move) -> dict[str, int]:
        """The changes of a move: the position of the new value, by slot."""
        read = self.slots.read(move.seen)
        changed: dict[str, int] = {}
        for positions, router, value in zip(self._routes(read), move.chosen[::2], move.chosen[1::2], strict=True):
            slot, present = read[positions[router]]
            changed[slot] = others(present, len(self.slots.values[slot]))[value]
        return changed


def others(present: int, count: int) -> list[int]:
    """The positions of all ``count`` values except the present one."""
    return [position for position in range(count) if position != present]


class RenasLearner(EditLearner[RenasSettings]):
    """The policy of router and mutators, learnt from batches of trials."""

    def begin(self, ask: Ask[RenasSettings]) -> encoder.Editor:
        """A new policy for the space of the experiment."""
        settings, mutators = ask.settings, Mutators.from_ask(ask)
        outside = len(mutators.nodes) if mutators.sources else None
        heads = {"router": 1, **dict(mutators.heads.values())}
        shape = encoder.Shape(mutators.slots.size, heads, outside=outside, units=settings.units)
        teaching = encoder.Teaching(settings.lr, settings.baseline_decay, entropy=settings.entropy)
        return encoder.Editor(shape, {"mutate": mutators.mutate}, teaching, ask.seed)


@algorithm(
    "renas", settings=RenasSettings, check=_check, learner=RenasLearner(rewards), extra="nas",
    strategy="modification", scope="cell",
)  # fmt: skip
def renas(ask: Ask[RenasSettings], taught: encoder.Editor) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    alive, known = youngest(ask, ask.settings.population), Known.from_ask(ask)
    return known.suggestions(
        ask.indices, lambda index: _mutant(ask, index, taught, alive, known) or drawn(ask, index, known)
    )


def _mutant(
    ask: Ask[RenasSettings], index: int, taught: encoder.Editor, alive: Sequence[Trial], known: Known
) -> Suggestion | None:
    """A new mutant of the best of some rivals; None while the population grows, or if all mutants are known."""
    rng, mutators, repeats = ask.rng(index), Mutators.from_ask(ask), list[tuple[int, Episode]]()
    for _ in range(PATIENCE if len(alive) >= ask.settings.population else 0):
        parent = best_rival(ask, alive, ask.settings.sample, rng)
        move = taught.draw("mutate", mutators.slots.tokens(parent.assignment), rng)
        child = mutators.slots.changed(parent.assignment, mutators.changes(move), rng)
        if known.first([(child, None)]):
            topology, info = _topology(ask, child), notes((move,), repeats)
            return Suggestion(index, child, parent=parent.index, topology=topology, info=info)
        repeats.append((known.trial(child), (move,)))
    return None


def _topology(ask: Ask[RenasSettings], assignment: Assignment) -> dict[str, Any] | None:
    """The network of a child, which inherits the weights of unchanged edges; None if its slots are invalid."""
    assert ask.architectures is not None
    try:
        return ask.architectures.topology(assignment).model_copy(update={"weights": "edges"}).to_dict()
    except InvalidSpec:
        return None
