"""A policy over edits as an algorithm: the moves by which it changes networks, and how it learns from trials.

The ``info`` of a suggestion records what the policy read and chose, as tokens and positions, so that it can learn from
a trial without its network. Choices that lead to a known network are not tried again; they count with that network's
result. The policy learns in the order of the indices from all batches that have ended, so that no trial has to wait.
The policy itself is in ``encoder``.
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

REPEATS = 16  # the largest number of recorded repeats per suggestion
Natural = Annotated[int, Field(ge=0, lt=1 << 31)]
S = TypeVar("S", bound=LearningSettings)


@dataclass(frozen=True)
class Move:
    """A recorded move of a policy.

    Attributes:
        kind: the kind of the move.
        seen: the tokens of the network that the policy read.
        chosen: the positions that it chose, in order.
    """

    kind: str
    seen: tuple[Natural, ...]
    chosen: tuple[Natural, ...]


Episode = tuple[Move, ...]
"""The moves from one network to another."""
_EPISODE = TypeAdapter(Episode)
_REPEATS = TypeAdapter(list[tuple[Natural, Episode]])


def notes(episode: Episode, repeats: Sequence[tuple[int, Episode]]) -> dict[str, object]:
    """The entries of a suggestion's ``info``.

    Args:
        episode: the moves that led to the suggestion.
        repeats: earlier episodes, which led to known networks, each with the index of that network's trial.
    """
    known = {"repeats": _REPEATS.dump_python(list(repeats[:REPEATS]), mode="json")} if repeats else {}
    return {"moves": _EPISODE.dump_python(episode, mode="json"), **known}


def episodes(trial: Trial) -> list[tuple[int, Episode]]:
    """The episodes that a trial records, its own and its repeats, each with a trial index; empty if invalid."""
    info = trial.suggestion.info
    try:
        own = _EPISODE.validate_python(info["moves"]) if "moves" in info else ()
        repeats = _REPEATS.validate_python(info.get("repeats", []))
    except ValidationError:  # somebody edited it in the store
        return []
    return [*([(trial.index, own)] if own else []), *repeats]


@dataclass(frozen=True)
class Lesson:
    """The data of one update: episodes and their rewards."""

    episodes: tuple[Episode, ...]
    rewards: tuple[float, ...]


def lessons(ask: Ask[Any], reward: Reward) -> Iterator[Lesson]:
    """One lesson for each batch that has ended, the earliest first."""
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
    """A policy over edits that learns from batches of trials, one lesson per batch."""

    reward: Reward

    def lessons(self, ask: Ask[S]) -> list[Lesson]:
        """One lesson for each batch that has ended."""
        return list(lessons(ask, self.reward))

    @abstractmethod
    def begin(self, ask: Ask[S]) -> encoder.Editor:
        """A new policy."""
        ...

    def learn(self, ask: Ask[S], known: encoder.Editor, lesson: Lesson, number: int) -> encoder.Editor:
        """Update the policy in place."""
        known.learn(lesson.episodes, np.array(lesson.rewards))
        return known

    def pack(self, known: encoder.Editor) -> bytes:
        """The state of the policy as safetensors."""
        return encoder.packed(known)

    def unpack(self, ask: Ask[S], content: bytes) -> encoder.Editor:
        """A policy with a packed state."""
        return encoder.unpacked(self.begin(ask), content)
