"""Incremental learning: an algorithm learns from its history lesson by lesson, and no lesson is learnt twice.

What an algorithm knows after some lessons depends only on the experiment and on these lessons. Therefore continuing
from the knowledge that an earlier call kept, and learning anew from the whole history, give the same result, bit for
bit. Kept knowledge is identified by a digest of its lessons, and is used only if the history still begins with them.
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
    """How an algorithm learns. S is the type of its settings, L that of a lesson, K that of its knowledge."""

    @abstractmethod
    def lessons(self, ask: "Ask[S]") -> Sequence[L]:
        """The lessons so far, in order: plain data, or data classes of plain data.

        New trials should add lessons at the end; if one changes an earlier lesson, everything is learnt anew.
        """

    @abstractmethod
    def begin(self, ask: "Ask[S]") -> K:
        """The knowledge before the first lesson; the history of ``ask`` is empty."""

    @abstractmethod
    def learn(self, ask: "Ask[S]", known: K, lesson: L, number: int) -> K:
        """The knowledge after one more lesson. The history of ``ask`` is empty.

        Args:
            known: the knowledge before this lesson; it may be changed in place.
            number: the number of the lesson, from 0.
        """

    @abstractmethod
    def pack(self, known: K) -> bytes:
        """Serialise the knowledge without loss, and without pickle: anyone who can write to the store can change it."""

    @abstractmethod
    def unpack(self, ask: "Ask[S]", content: bytes) -> K:
        """The inverse of ``pack``. The history of ``ask`` is empty.

        Raises:
            ValueError: the content is not valid for this algorithm and this experiment.
        """


@dataclass(frozen=True)
class Answer:
    """The reply of an algorithm to an ``Ask``.

    Attributes:
        learnt: its knowledge, to be kept; None if it knows nothing, or what is kept is up to date.
    """

    suggestions: Sequence[Suggestion]
    learnt: Learnt | None = None


def taught(learner: Learner[S, L, K], ask: "Ask[S]", kept: Iterable[Learnt]) -> tuple[K, Learnt | None]:
    """The knowledge after all lessons so far; also packed, to be kept, if any lesson was new.

    Args:
        kept: packed knowledge of earlier calls. It is read only if there are lessons, and only up to the first match.
    """
    lessons = learner.lessons(ask)
    prefixes = digests(ask, lessons)
    alone = replace(ask, history=History(), earlier=History(), indices=range(0))
    count, known = _remembered(learner, alone, prefixes, kept if lessons else ())
    for number in range(count, len(lessons)):
        known = learner.learn(alone, known, lessons[number], number)
    if count == len(lessons):
        return known, None
    return known, Learnt(len(lessons), prefixes[-1], learner.pack(known))


def _remembered(
    learner: Learner[S, L, K], alone: "Ask[S]", prefixes: Sequence[str], kept: Iterable[Learnt]
) -> tuple[int, K]:
    """The first kept knowledge that fits the lessons, and the number of its lessons; a new start if none fits."""
    for learnt in kept:
        if 0 < learnt.lessons < len(prefixes) and learnt.digest == prefixes[learnt.lessons]:
            try:
                return learnt.lessons, learner.unpack(alone, learnt.content)
            except ValueError:  # the digest matches, but another program wrote the content
                continue
    return 0, learner.begin(alone)


def digests(ask: "Ask[Any]", lessons: Sequence[object]) -> list[str]:
    """Digests of the first 0, 1, 2, ... lessons, with the experiment and the version of katib-flow.

    The version counts because another one may learn differently.
    """
    digest = hashlib.sha256(_text([version("katib-flow"), ask.experiment.to_dict()]))
    prefixes = [digest.hexdigest()]
    for lesson in lessons:
        digest.update(b"\n" + _text(lesson))
        prefixes.append(digest.hexdigest())
    return prefixes


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a lesson must be plain data or a data class, not {type(value).__name__}")
