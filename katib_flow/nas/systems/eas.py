"""Efficient architecture search: a policy learns which layers to widen and where to insert one, and nothing is lost.

Paper: Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018: a bidirectional LSTM reads the
network as a sequence of tokens; the wider actor, a sigmoid that all layers share, says whether a layer goes to the next
level of width; the deeper actor, an LSTM that begins with the encoder's last state, chooses a block, a layer in it, and
the kernel of a layer that is inserted after it; Net2Net keeps what the network computes; REINFORCE, with the reward
tan(accuracy pi / 2) less a moving mean; children train for 20 epochs from what they inherit, at a learning rate of
0.02. Batches of 10 networks, each by 4 steps of the wider and then 5 of the deeper actor, are those of the authors'
code, as are the sizes, the learning rate and the weight of the entropy. ``encoder`` has the policy.
Departs from it: nobody waits for a batch, and networks that begin beside the first one are trained from scratch; a
network that is known is not trained again, but counts again, and after many the actors go on from it; after ``stage``
trials the best network becomes the current one, without being trained further; an edit that does not fit, or by which a
network would have more than ``max_parameters``, is not made; no noise is added to copied channels; the accuracy counts
up to .999; other parameters are drawn. Any network without slots will do, but DenseNets have no actors of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion, Trial
from katib_flow.models.edits import Fields
from katib_flow.nas.door import Later
from katib_flow.nas.growth import Candidate, GrowthSettings, check_start, network_of
from katib_flow.nas.moves import REPEATS, EditLearner, Episode, Move, notes
from katib_flow.nas.policy import LearningSettings, Results
from katib_flow.nas.vocabulary import Kernels, Levels, Vocabulary
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

if TYPE_CHECKING:
    from katib_flow.nas import encoder
else:
    encoder = Later("katib_flow.nas.encoder")

BLOCKS, POSITIONS = 8, 32  # that the deeper actor chooses from
HIGHEST = 0.999  # accuracy that counts


class EasSettings(GrowthSettings, LearningSettings):
    batch: Count = 4
    lr: Annotated[float, Field(gt=0)] = 0.01
    units: Annotated[int, Field(ge=1, le=512)] = 50
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    entropy: Annotated[float, Field(ge=0)] = 1e-5
    wider: Annotated[int, Field(ge=0)] = 1
    """Steps of the wider actor, with which an episode begins."""
    deeper: Annotated[int, Field(ge=0)] = 1
    """Steps of the deeper actor after them."""
    stage: Count = 8
    """Trials after which the best network becomes the one with which episodes begin."""
    channels: Levels = (4, 8, 12, 16, 24, 32, 48, 64)
    """Levels of width of a convolution, rising."""
    features: Levels = (16, 32, 64, 128)
    """The same of a dense layer."""
    kernels: Kernels = (1, 3, 5)
    """Of a convolution that is inserted."""
    most: Annotated[float, Field(gt=0)] = 1.0
    """The highest value that the objective may have: 1 for an accuracy, 100 for a percentage."""
    paper: ClassVar = {
        "batch": 10, "lr": 0.002, "wider": 4, "deeper": 5, "stage": 300, "max_parameters": 1 << 25,
        "channels": (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512),
        "features": (64, 128, 256, 384, 512, 640, 768, 896, 1024),
    }  # fmt: skip


def _check(experiment: Experiment, settings: EasSettings) -> Iterator[SpecError]:
    yield from check_start(experiment, settings)
    if (objective := experiment.objective[0]).direction != "maximize":
        need = "an accuracy to maximize: the reward is tan(accuracy pi / 2)"
        yield SpecError("objective", f"{objective.direction} {objective.metric}", need)


def rewards(settings: EasSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The reward of some trials, tan(accuracy pi / 2); 0 for one that failed."""
    accuracies = np.clip(-results[list(members), 0] / settings.most, 0, HIGHEST)
    return np.nan_to_num(np.tan(accuracies * math.pi / 2)).tolist()


@dataclass(frozen=True)
class Actors:
    """What the two actors may do, by the tokens of a network."""

    vocabulary: Vocabulary

    @classmethod
    def of(cls, settings: EasSettings) -> Actors:
        return cls(Vocabulary(settings.channels, settings.features, settings.kernels))

    def widen(self, policy: encoder.EditPolicy, seen: Sequence[int], choose: encoder.Choose) -> None:
        """Of each layer that can be wider, whether it is to be."""
        states = policy.encode(seen).states
        for position in self._able(seen):
            choose(policy.flag("wider", states[position]))

    def _able(self, seen: Sequence[int]) -> list[int]:
        return [position for position, token in enumerate(seen) if self.vocabulary.wider(token)]

    def deepen(self, policy: encoder.EditPolicy, seen: Sequence[int], choose: encoder.Choose) -> None:
        """A block, a layer in it, and of a convolution the kernel of the layer that comes after it."""
        blocks, vocabulary = self.vocabulary.blocks(seen), self.vocabulary

        def among(choices: Sequence[int]) -> int:
            if not choices:
                return min(len(blocks), BLOCKS)
            block = blocks[choices[0]]
            if len(choices) == 1:
                return min(len(block), POSITIONS)
            return len(vocabulary.kernels) if seen[block[choices[1]]] < vocabulary.dense else 0

        policy.decode(policy.encode(seen), choose, among)

    def edits(self, move: Move, edges: Sequence[str], rng: np.random.Generator) -> Iterator[Fields]:
        """What a move makes of a network, by the edges of its tokens."""
        vocabulary = self.vocabulary
        if move.kind == "widen":
            for position, chosen in zip(self._able(move.seen), move.chosen, strict=True):
                if chosen:
                    to, seed = vocabulary.wider(move.seen[position]), int(rng.integers(1 << 31))
                    yield {"edit": "widen", "edge": edges[position], "to": to, "seed": seed}
        elif move.chosen:
            block, layer, *kernel = move.chosen
            edge = edges[vocabulary.blocks(move.seen)[block][layer]]
            yield {"edit": "deepen", "edge": edge} | ({"k": vocabulary.kernels[kernel[0]]} if kernel else {})


class EasLearner(EditLearner[EasSettings]):
    def begin(self, ask: Ask[EasSettings]) -> encoder.Editor:
        settings, actors = ask.settings, Actors.of(ask.settings)
        decoded, moves = (BLOCKS, POSITIONS, len(settings.kernels)), {"widen": actors.widen, "deepen": actors.deepen}
        shape = encoder.Shape(actors.vocabulary.pool + 1, {"wider": 1}, decoded, units=settings.units)
        teaching = encoder.Teaching(settings.lr, settings.baseline_decay, entropy=settings.entropy)
        return encoder.Editor(shape, moves, teaching, ask.seed)


@algorithm(
    "eas", settings=EasSettings, check=_check, learner=EasLearner(rewards), extra="nas",
    strategy="modification", scope="network",
)  # fmt: skip
def eas(ask: Ask[EasSettings], known: encoder.Editor) -> list[Suggestion]:
    """The network to start from, then what episodes make of the current one; fewer than asked for if none is new."""
    assert ask.architectures is not None
    parent = current(ask)
    begin = Candidate(network_of(parent), parent) if parent else Candidate(ask.architectures.initial)
    tried = {network_of(trial).hash: trial.index for trial in ask.history if trial.suggestion.topology}
    fresh = (_suggested(ask, index, known, begin, tried) for index in ask.indices)
    return [suggestion for suggestion in takewhile(bool, fresh) if suggestion]


def current(ask: Ask[EasSettings]) -> Trial | None:
    """The best of all stages that are over; in the first one, the first with a result."""
    over = len(list(takewhile(lambda trial: trial.state.over, ask.history)))
    best = ask.experiment.best(list(ask.history)[: over - over % ask.settings.stage])
    return best or next(iter(ask.history.completed(ask.objective.metric)), None)


def _suggested(
    ask: Ask[EasSettings], index: int, known: encoder.Editor, begin: Candidate, tried: dict[str, int]
) -> Suggestion | None:
    """The network to start from, or what the first episode makes that is new; None where many in a row make nothing."""
    rng, repeats = ask.rng(index), list[tuple[int, Episode]]()
    if not tried:
        tried[begin.topology.hash] = index
        return begin.suggestion(index, ask.space.draw(rng), "fresh")
    candidate, moves = begin, ()
    for attempt in range(PATIENCE):
        if attempt < REPEATS:
            candidate, moves = begin, ()
        candidate, further = episode(ask.settings, known, candidate, rng)
        moves = (*moves, *further)
        trial = tried.setdefault(candidate.topology.hash, index)
        if trial == index:
            weights = "inherit" if begin.parent else "fresh"
            return candidate.suggestion(index, ask.space.draw(rng), weights, **notes(moves, repeats))
        repeats.append((trial, moves))
    return None


def episode(
    settings: EasSettings, known: encoder.Editor, begin: Candidate, rng: np.random.Generator
) -> tuple[Candidate, Episode]:
    """What the actors make of a network, and their moves."""
    candidate, moves, actors = begin, list[Move](), Actors.of(settings)
    for kind in ("widen",) * settings.wider + ("deepen",) * settings.deeper:
        tokens = actors.vocabulary.tokens(candidate.topology)
        moves.append(known.draw(kind, list(tokens.values()), rng))
        for edit in actors.edits(moves[-1], list(tokens), rng):
            candidate = candidate.edited([edit], settings.max_parameters) or candidate
    return candidate, tuple(moves)
