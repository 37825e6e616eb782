"""Efficient architecture search: a policy learns which layers to widen and where to insert new ones.

Paper: Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018: a bidirectional LSTM reads the
network as a sequence of tokens; the wider actor, a sigmoid shared by all layers, decides whether a layer goes to the
next level of width; the deeper actor, an LSTM that starts from the encoder's last state, chooses a block, a layer of
it, and the kernel size of a layer to insert after it; Net2Net preserves the function of the network; REINFORCE, with
the reward tan(accuracy pi / 2) minus a moving mean; children inherit weights and train for 20 epochs at a learning rate
of 0.02. Batches of 10 networks, each from 4 steps of the wider and 5 of the deeper actor, are those of the authors'
code, as are the sizes, the learning rate and the weight of the entropy. The policy is in ``encoder``.
Departs from it: no trial waits for a batch, and networks suggested before the first has a result are trained from
scratch; a known network is not trained again but counts again, and after many of them the actors continue from it;
after ``stage`` trials the best network becomes the current one, without further training; an edit that does not fit, or
that exceeds ``max_parameters``, is skipped; no noise is added to copied channels; accuracies above .999 count as .999;
other parameters are random. The initial network may be any without slots, but there are no special actors for
DenseNets.
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

BLOCKS, POSITIONS = 8, 32  # largest numbers of blocks, and of layers in a block, for the deeper actor
HIGHEST = 0.999  # upper bound of the accuracy in the reward


class EasSettings(GrowthSettings, LearningSettings):
    """Settings of ``eas``."""

    batch: Count = 4
    lr: Annotated[float, Field(gt=0)] = 0.01
    units: Annotated[int, Field(ge=1, le=512)] = 50
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    entropy: Annotated[float, Field(ge=0)] = 1e-5
    wider: Annotated[int, Field(ge=0)] = 1
    """Number of steps of the wider actor at the start of an episode."""
    deeper: Annotated[int, Field(ge=0)] = 1
    """Number of steps of the deeper actor after them."""
    stage: Count = 8
    """Number of trials after which the best network becomes the start of the episodes."""
    channels: Levels = (4, 8, 12, 16, 24, 32, 48, 64)
    """Levels of width of a convolution, in ascending order."""
    features: Levels = (16, 32, 64, 128)
    """Levels of width of a dense layer, in ascending order."""
    kernels: Kernels = (1, 3, 5)
    """Possible kernel sizes of an inserted convolution."""
    most: Annotated[float, Field(gt=0)] = 1.0
    """Largest possible value of the objective: 1 for an accuracy, 100 for a percentage."""
    paper: ClassVar = {
        "batch": 10, "lr": 0.002, "wider": 4, "deeper": 5, "stage": 300, "max_parameters": 1 << 25,
        "channels": (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512),
        "features": (64, 128, 256, 384, 512, 640, 768, 896, 1024),
    }  # fmt: skip


def _check(experiment: Experiment, settings: EasSettings) -> Iterator[SpecError]:
    yield from check_start(experiment, settings)
    if (objective := experiment.objective[0]).direction != "maximize":
        need = "an accuracy to maximize, because the reward is tan(accuracy pi / 2)"
        yield SpecError("objective", f"{objective.direction} {objective.metric}", need)


def rewards(settings: EasSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The rewards of some trials, tan(accuracy pi / 2); 0 for a failed trial."""
    accuracies = np.clip(-results[list(members), 0] / settings.most, 0, HIGHEST)
    return np.nan_to_num(np.tan(accuracies * math.pi / 2)).tolist()


@dataclass(frozen=True)
class Actors:
    """The moves of the two actors, by the tokens of a network."""

    vocabulary: Vocabulary

    @classmethod
    def from_settings(cls, settings: EasSettings) -> Actors:
        """The actors for some levels of width and kernel sizes."""
        return cls(Vocabulary(settings.channels, settings.features, settings.kernels))

    def widen(self, policy: encoder.EditPolicy, seen: Sequence[int], choose: encoder.Choose) -> None:
        """Choose, for each layer below the highest level of width, whether to widen it."""
        states = policy.encode(seen).states
        for position in self._able(seen):
            choose(policy.flag("wider", states[position]))

    def _able(self, seen: Sequence[int]) -> list[int]:
        return [position for position, token in enumerate(seen) if self.vocabulary.wider(token)]

    def deepen(self, policy: encoder.EditPolicy, seen: Sequence[int], choose: encoder.Choose) -> None:
        """Choose a block, a layer in it and, after a convolution, the kernel size of the new layer."""
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
        """The edits of a move.

        Args:
            edges: the key of the edge of each token.
        """
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
    """The policy of both actors, learnt from batches of trials."""

    def begin(self, ask: Ask[EasSettings]) -> encoder.Editor:
        """A new policy for the levels of width in the settings."""
        settings, actors = ask.settings, Actors.from_settings(ask.settings)
        decoded, moves = (BLOCKS, POSITIONS, len(settings.kernels)), {"widen": actors.widen, "deepen": actors.deepen}
        shape = encoder.Shape(actors.vocabulary.pool + 1, {"wider": 1}, decoded, units=settings.units)
        teaching = encoder.Teaching(settings.lr, settings.baseline_decay, entropy=settings.entropy)
        return encoder.Editor(shape, moves, teaching, ask.seed)


@algorithm(
    "eas", settings=EasSettings, check=_check, learner=EasLearner(rewards), extra="nas",
    strategy="modification", scope="network",
)  # fmt: skip
def eas(ask: Ask[EasSettings], known: encoder.Editor) -> list[Suggestion]:
    """The initial network, then edits of the current one; fewer than requested if no episode gives a new network."""
    assert ask.architectures is not None
    parent = current(ask)
    begin = Candidate(network_of(parent), parent) if parent else Candidate(ask.architectures.initial)
    tried = {network_of(trial).hash: trial.index for trial in ask.history if trial.suggestion.topology}
    fresh = (_suggested(ask, index, known, begin, tried) for index in ask.indices)
    return [suggestion for suggestion in takewhile(bool, fresh) if suggestion]


def current(ask: Ask[EasSettings]) -> Trial | None:
    """The best trial of the stages that have ended; in the first stage, the first trial with a result."""
    over = len(list(takewhile(lambda trial: trial.state.over, ask.history)))
    best = ask.experiment.best(list(ask.history)[: over - over % ask.settings.stage])
    return best or next(iter(ask.history.completed(ask.objective.metric)), None)


def _suggested(
    ask: Ask[EasSettings], index: int, known: encoder.Editor, begin: Candidate, tried: dict[str, int]
) -> Suggestion | None:
    """The initial network, or the first new network of an episode; None if many episodes give only known ones."""
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
    """The network after the moves of the actors, and the moves."""
    candidate, moves, actors = begin, list[Move](), Actors.from_settings(settings)
    for kind in ("widen",) * settings.wider + ("deepen",) * settings.deeper:
        tokens = actors.vocabulary.tokens(candidate.topology)
        moves.append(known.draw(kind, list(tokens.values()), rng))
        for edit in actors.edits(moves[-1], list(tokens), rng):
            candidate = candidate.edited([edit], settings.max_parameters) or candidate
    return candidate, tuple(moves)
