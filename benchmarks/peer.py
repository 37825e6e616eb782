"""The interface of the algorithms that are compared."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from problems import Problem

Assignment = Mapping[str, Any]


class Peer(ABC):
    """One run of an optimizer.

    Attributes:
        elsewhere_seconds: processor time that the optimizer has spent in other processes.
    """

    elsewhere_seconds = 0.0

    @abstractmethod
    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None: ...

    @abstractmethod
    def ask(self, count: int) -> Sequence[Assignment]:
        """Suggest assignments to evaluate together; fewer than ``count`` if the space is exhausted."""

    @abstractmethod
    def tell(self, losses: Sequence[float]) -> None:
        """Report the losses of the assignments that ``ask`` returned last, in the same order."""
