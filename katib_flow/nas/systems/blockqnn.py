"""Q-learning chooses a block layer by layer: at first at random, then more and more often greedily.

Paper: Zhong et al., "Practical Block-wise Neural Network Architecture Generation", CVPR 2018: section 3.1 (the network
structure code, here the space ``block``), section 3.2 (Q-learning, equations 3 to 5: every decision gets an equal share
of the reward, the last one all of it; epsilon-greedy by a schedule; replay), section 3.3 (the reward: accuracy in
percent after few epochs, minus mu log(FLOPs) and rho log(density)). The table is in ``qtable``, its use in ``policy``.
Departs from it: the parts of a layer are chosen one after another, which loses no information and needs fewer values;
FLOPs and density (edges per vertex) are those of the whole network; a failed trial has the lowest accuracy so far;
rewards are relative to the lowest of the first batch, so that the initial value 0 is low for any objective; no network
is trained twice. The schedule and the learning rate are for a hundred trials, not for 11,392.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, TypeAdapter

from katib_flow.algorithms.learning import Learner
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.topology import Topology
from katib_flow.nas.policy import Batch, Results, batches, needs_slots, objective_rewards, proposed
from katib_flow.nas.qtable import Finite, QTable, Rows, Shaping, Slots, packed, unpacked
from katib_flow.nas.settings import SystemSettings
from katib_flow.nas.tokens import choices
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class BlockQnnSettings(SystemSettings):
    """Settings of ``blockqnn``; the symbols of the paper stand last."""

    batch: Count = 4
    """Number of trials after which the table learns."""
    schedule: Annotated[tuple[tuple[Share, Count], ...], Field(min_length=1)] = (
        (1.0, 8), (0.8, 2), (0.6, 2), (0.4, 3), (0.2, 4), (0.1, 6)
    )  # fmt: skip
    """Pairs of the probability of a random decision, epsilon, and its number of batches; the last one continues."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Learning rate, alpha."""
    replay: Annotated[int, Field(ge=0)] = 64
    """Number of earlier trials, drawn uniformly, from which the table learns again after every batch."""
    shaping: Shaping = "even"
    """even: every decision gets a share of the reward; none: only the last, which overrates short blocks at first."""
    scale: Annotated[float, Field(gt=0)] = 100.0
    """Factor of the objective; 100 turns an accuracy into a percentage."""
    flops: Weight = 1.0
    """Weight of the logarithm of the FLOPs, mu."""
    density: Weight = 8.0
    """Weight of the logarithm of the density, rho."""
    paper: ClassVar = {
        "batch": 64,
        "schedule": (
            (1.0, 95),
            *((epsilon, 7) for epsilon in (0.9, 0.8, 0.7)),
            *((epsilon, 10) for epsilon in (0.6, 0.5, 0.4, 0.3, 0.2)),
            (0.1, 12),
        ),
        "rate": 0.01,
        "replay": 128,
    }


def _check(experiment: Experiment, settings: BlockQnnSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "block")


@dataclass
class Experience:
    """The knowledge of the system: the table, and all trials that it has learnt from.

    Attributes:
        schedule: as in the settings.
        trials: tokens and reward of each trial.
        batches: number of batches learnt.
        floor: the reward that counts as 0.
    """

    table: QTable
    schedule: tuple[tuple[float, int], ...]
    trials: list[tuple[tuple[int, ...], float]] = field(default_factory=list[tuple[tuple[int, ...], float]])
    batches: int = 0
    floor: float = 0.0

    def set_epsilon(self) -> None:
        """Set epsilon by the schedule and the number of batches."""
        ends = np.cumsum([count for _, count in self.schedule])
        stage = int(np.searchsorted(ends, self.batches, side="right"))
        self.table.epsilon = self.schedule[min(stage, len(ends) - 1)][0]


class ReplayLearner(Learner[BlockQnnSettings, Batch, Experience]):
    """The lessons are batches of trials; after each, the table learns again from earlier trials."""

    def lessons(self, ask: Ask[BlockQnnSettings]) -> list[Batch]:
        """One lesson for each batch that has ended."""
        return list(batches(ask, lambda settings, results, members: rewards(ask, results, members)))

    def begin(self, ask: Ask[BlockQnnSettings]) -> Experience:
        """An empty table."""
        parameters, settings = ask.space.parameters, ask.settings
        slots = Slots.named(list(parameters), [choices(parameter) for parameter in parameters.values()])
        known = Experience(QTable(slots, settings.rate, shaping=settings.shaping), settings.schedule)
        known.set_epsilon()
        return known

    def learn(self, ask: Ask[BlockQnnSettings], known: Experience, lesson: Batch, number: int) -> Experience:
        """Learn from the new trials, then from a random sample of all trials."""
        fresh = list(zip(lesson.tokens, lesson.rewards, strict=True))
        known.trials += fresh
        known.floor = known.floor if number else min(lesson.rewards)
        again = np.random.default_rng((ask.seed, number, 1)).integers(len(known.trials), size=ask.settings.replay)
        for tokens, reward in [*fresh, *(known.trials[position] for position in again)]:
            known.table.learn(tokens, reward - known.floor)
        known.batches += 1
        known.set_epsilon()
        return known

    def pack(self, known: Experience) -> bytes:
        """The table, the trials and the counts as JSON."""
        return json.dumps([packed(known.table), known.trials, known.batches, known.floor]).encode()

    def unpack(self, ask: Ask[BlockQnnSettings], content: bytes) -> Experience:
        """The packed knowledge, with epsilon by the schedule."""
        known = self.begin(ask)
        rows, known.trials, known.batches, known.floor = _KEPT.validate_json(content)
        unpacked(known.table, rows)
        known.set_epsilon()
        return known


Trials = list[tuple[tuple[int, ...], Finite]]
_KEPT: TypeAdapter[tuple[Rows, Trials, int, float]] = TypeAdapter(
    tuple[Rows, Trials, Annotated[int, Field(ge=0)], Finite]
)


def rewards(ask: Ask[BlockQnnSettings], results: Results, members: Sequence[int]) -> list[float]:
    """The rewards of some trials: the scaled objective minus the cost of the network (section 3.3)."""
    values = objective_rewards(ask.settings, results, members)
    costs = (cost(ask.settings, ask.history[index].suggestion.topology) for index in members)
    return [ask.settings.scale * value - less for value, less in zip(values, costs, strict=True)]


def cost(settings: BlockQnnSettings, topology: Any) -> float:
    """mu log(FLOPs) + rho log(density) of a network; a network without FLOPs counts as one FLOP."""
    if topology is None or settings.flops == settings.density == 0:
        return 0.0
    network = Topology.parse(topology)
    vertices = {edge.dst for edge in network.flat.edges}
    density = len(network.flat.edges) / max(1, len(vertices))
    return settings.flops * math.log(max(1, network.flops)) + settings.density * math.log(max(1.0, density))


@algorithm(
    "blockqnn",
    settings=BlockQnnSettings,
    check=_check,
    learner=ReplayLearner(),
    strategy="generation",
    scope="cell",
)
def blockqnn(ask: Ask[BlockQnnSettings], known: Experience) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    return proposed(ask, known.table)
