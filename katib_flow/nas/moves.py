"""A policy over edits as an algorithm: the moves by which it changes networks, and how trials teach it.

What the policy saw and chose travels with a suggestion, in its ``info``, as tokens and positions: what it has to learn
from a trial needs no network. Choices that led to what is known are not tried again: they count with the result that
it had. It learns in order of index, from all batches that are over, so that nobody waits. ``encoder`` has the policy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from katib_flow.algorithms.learning import Learner
from katib_flow.algorithms.registry import Ask
from katib_flow.history import Trial
from katib_flow.nas.door import Later
from katib_flow.nas.policy import LearningSettings, Reward, ended_batches

if TYPE_CHECKING:
    from katib_flow.nas import encoder
else:
    encoder = Later("katib_flow.nas.encoder")

REPEATS = 16  # at most count again
Natural = Annotated[int, Field(ge=0, lt=1 << 31)]
S = TypeVar("S", bound=LearningSettings)


@dataclass(frozen=True)
class Move:
    """What a policy chose.

    Attributes:
        kind: which of its moves it is.
        seen: the tokens of the network that it looked at.
        chosen: positions, one choice after the other.
    """

    kind: str
    seen: tuple[Natural, ...]
    chosen: tuple[Natural, ...]


Episode = tuple[Move, ...]
"""The moves from one network to another."""
_EPISODE = TypeAdapter(Episode)
_REPEATS = TypeAdapter(list[tuple[Natural, Episode]])


def notes(episode: Episode, repeats: Sequence[tuple[int, Episode]]) -> dict[str, object]:
    """What a suggestion is to keep.

    Args:
        episode: that led to it.
        repeats: those before it, which led to networks that are known, each with the index of its trial.
    """
    known = {"repeats": _REPEATS.dump_python(list(repeats[:REPEATS]), mode="json")} if repeats else {}
    return {"moves": _EPISODE.dump_python(episode, mode="json"), **known}


def episodes(trial: Trial) -> list[tuple[int, Episode]]:
    """What led to a trial, and to those that were come upon before it, each with its index; none where none is kept."""
    info = trial.suggestion.info
    try:
        own = _EPISODE.validate_python(info["moves"]) if "moves" in info else ()
        repeats = _REPEATS.validate_python(info.get("repeats", []))
    except ValidationError:  # whoever can write to the store can change it
        return []
    return [*([(trial.index, own)] if own else []), *repeats]


@dataclass(frozen=True)
class Lesson:
    """What an update is made of: episodes, and their rewards."""

    episodes: tuple[Episode, ...]
    rewards: tuple[float, ...]


def lessons(ask: Ask[Any], reward: Reward) -> Iterator[Lesson]:
    """What the batches that are over teach, the earliest first."""
    tried = {trial.index for trial in ask.history}
    for fresh, seen in ended_batches(ask):
        known = [
            (index, episode)
            for trial in fresh
            for index, episode in episodes(trial)
            if index in tried and index <= fresh[-1].index
        ]
        if known:
            rewards = reward(ask.settings, seen, [index for index, _ in known])
            yield Lesson(tuple(episode for _, episode in known), tuple(float(value) for value in rewards))


@dataclass
class EditLearner(Learner[S, Lesson, "encoder.Editor"]):
    """A policy over edits that learns from batches, one lesson a batch."""

    reward: Reward

    def lessons(self, ask: Ask[S]) -> list[Lesson]:
        return list(lessons(ask, self.reward))

    @abstractmethod
    def begin(self, ask: Ask[S]) -> encoder.Editor: ...

    def learn(self, ask: Ask[S], known: encoder.Editor, lesson: Lesson, number: int) -> encoder.Editor:
        known.learn(lesson.episodes, np.array(lesson.rewards))
        return known

    def pack(self, known: encoder.Editor) -> bytes:
        return encoder.packed(known)

    def unpack(self, ask: Ask[S], content: bytes) -> encoder.Editor:
        return encoder.unpacked(self.begin(ask), content)
