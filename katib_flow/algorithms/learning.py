"""How an algorithm learns from its history, lesson after lesson, so that nothing is learnt twice.

What an algorithm knows after some lessons depends on the experiment and on these lessons alone. So it makes no
difference whether it goes on from what was kept when it was last asked, or learns anew from the whole history: both
come to the same, bit for bit. What is kept is named by a digest of the lessons, and counts only where the history
still begins with them.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from katib_flow.history import History, Learnt, Suggestion
from katib_flow.plugins import Settings

if TYPE_CHECKING:
    from katib_flow.algorithms.registry import Ask

S = TypeVar("S", bound=Settings)
L = TypeVar("L")
K = TypeVar("K")


class Learner(ABC, Generic[S, L, K]):
    """What an algorithm learns by: S is its settings, L a lesson, K what it knows."""

    @abstractmethod
    def lessons(self, ask: "Ask[S]") -> Sequence[L]:
        """What there is to learn from so far, in order: plain data, or data classes of it.

        New trials should add lessons at the end; where they change an earlier one, all is learnt anew.
        """

    @abstractmethod
    def begin(self, ask: "Ask[S]") -> K:
        """What is known before the first lesson; the history of the question is empty."""

    @abstractmethod
    def learn(self, ask: "Ask[S]", known: K, lesson: L, number: int) -> K:
        """What is known after one more lesson; ``known`` may be changed. The history of the question is empty.

        Args:
            number: of the lesson, from 0.
        """

    @abstractmethod
    def pack(self, known: K) -> bytes:
        """All that is known, without loss; no pickle: whoever can write to the store can change it."""

    @abstractmethod
    def unpack(self, ask: "Ask[S]", content: bytes) -> K:
        """What was packed. The history of the question is empty.

        Raises:
            ValueError: it is not what this algorithm knows of this experiment.
        """


@dataclass(frozen=True)
class Answer:
    """What an algorithm answers.

    Attributes:
        learnt: what it knows now, to be kept; None where that is nothing, or what was kept already.
    """

    suggestions: Sequence[Suggestion]
    learnt: Learnt | None = None


def taught(learner: Learner[S, L, K], ask: "Ask[S]", kept: Iterable[Learnt]) -> tuple[K, Learnt | None]:
    """What an algorithm knows after all lessons so far, and the same to be kept, where it is new.

    Args:
        kept: at earlier asks; it is looked at only where there are lessons, and only until something of it fits.
    """
    lessons = learner.lessons(ask)
    marks = digests(ask, lessons)
    alone = replace(ask, history=History(), earlier=History(), indices=range(0))
    count, known = _remembered(learner, alone, marks, kept if lessons else ())
    for number in range(count, len(lessons)):
        known = learner.learn(alone, known, lessons[number], number)
    if count == len(lessons):
        return known, None
    return known, Learnt(len(lessons), marks[-1], learner.pack(known))


def _remembered(
    learner: Learner[S, L, K], alone: "Ask[S]", marks: Sequence[str], kept: Iterable[Learnt]
) -> tuple[int, K]:
    """The first of what was kept that fits, and from how many lessons it was learnt."""
    for learnt in kept:
        if 0 < learnt.lessons < len(marks) and learnt.digest == marks[learnt.lessons]:
            try:
                return learnt.lessons, learner.unpack(alone, learnt.content)
            except ValueError:  # it agrees with its digest, but another program wrote it
                continue
    return 0, learner.begin(alone)


def digests(ask: "Ask[Any]", lessons: Sequence[object]) -> list[str]:
    """Of the experiment and the first 0, 1, 2 ... lessons, and of our version: another one may learn otherwise."""
    digest = hashlib.sha256(_text([version("katib-flow"), ask.experiment.to_dict()]))
    marks = [digest.hexdigest()]
    for lesson in lessons:
        digest.update(b"\n" + _text(lesson))
        marks.append(digest.hexdigest())
    return marks


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a lesson must be plain data or a data class, found {type(value).__name__}")
