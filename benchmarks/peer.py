"""The interface of everything that is compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from problems import Problem

Assignment = Mapping[str, Any]


class Peer(ABC):
    """One run of one optimizer.

    Attributes:
        elsewhere_seconds: processor time that it spent in other processes.
    """

    elsewhere_seconds = 0.0

    @abstractmethod
    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None: ...

    @abstractmethod
    def ask(self, count: int) -> Sequence[Assignment]:
        """Assignments that are out together; fewer than asked for where the space is exhausted."""

    @abstractmethod
    def tell(self, losses: Sequence[float]) -> None:
        """The losses of what was asked for last, in that order."""
