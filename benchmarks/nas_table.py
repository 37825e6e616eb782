"""The table of NB-digits as an objective that answers at once, and the exact curve of random search on it.

What to compare: ``valid_loss`` of one seed is what a search sees; ``regret`` is the mean validation loss of a network
above that of the best; ``test_regret`` the same on images that no search has seen. Lower is better.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from katib_flow.history import Value
from katib_flow.models.presets import space_of
from katib_flow.models.space import Space
from katib_flow.spec.sections import Architecture

TABLE = Path(__file__).parent / "tables" / "nas-digits.npz"
ARCHITECTURE = {"space": "cell", "settings": {"operations": ["none", "skip", "conv3", "avg3"]}}
"""What a spec writes to search this space."""

TRAIN_LOSS, VALID_LOSS, VALID_ACCURACY = range(3)


@lru_cache(maxsize=1)
def space() -> Space:
    """The space that the table covers: six slots of four operations."""
    return space_of(Architecture.model_validate(ARCHITECTURE))


def codes() -> Iterator[tuple[int, ...]]:
    """Every assignment as tokens (``Space.encode``), the last slot changing fastest."""
    return itertools.product(range(4), repeat=6)


@dataclass(frozen=True)
class Table:
    """Every network of the space, trained with one seed or more.

    Attributes:
        hashes: ``Topology.hash`` of each network, shape (network,).
        epochs: shape (network, seed, epoch, column), the columns named above.
        test: loss and accuracy on the test images after the last epoch, shape (network, seed, 2).
        parameters, flops: shape (network,).
    """

    hashes: NDArray[np.str_]
    class_of_code: NDArray[np.int16]
    epochs: NDArray[np.float32]
    test: NDArray[np.float32]
    parameters: NDArray[np.int32]
    flops: NDArray[np.int32]

    @classmethod
    def load(cls, path: Path = TABLE) -> "Table":
        with np.load(path, allow_pickle=False) as file:
            return cls(*(file[name] for name in ("hashes", "class_of_code", "epochs", "test", "parameters", "flops")))

    def class_of(self, tokens: Sequence[int]) -> int:
        """The network of some tokens, its position in the table."""
        code = 0
        for token in tokens:
            code = 4 * code + int(token)
        return int(self.class_of_code[code])

    def position(self, decisions: Mapping[str, Value]) -> int:
        """The network of an assignment."""
        return self.class_of(space().encode(decisions))

    @cached_property
    def by_hash(self) -> Mapping[str, int]:
        """Position by ``Topology.hash``."""
        return {str(digest): number for number, digest in enumerate(self.hashes)}

    @cached_property
    def valid_loss(self) -> NDArray[np.float64]:
        """After the last epoch, shape (network, seed)."""
        return self.epochs[:, :, -1, VALID_LOSS].astype(float)

    @cached_property
    def valid_accuracy(self) -> NDArray[np.float64]:
        return self.epochs[:, :, -1, VALID_ACCURACY].astype(float)

    @cached_property
    def mean_valid_loss(self) -> NDArray[np.float64]:
        return self.valid_loss.mean(axis=1)

    @cached_property
    def mean_test_loss(self) -> NDArray[np.float64]:
        return self.test[:, :, 0].astype(float).mean(axis=1)

    @property
    def seeds(self) -> int:
        return self.epochs.shape[1]

    def query(self, decisions: Mapping[str, Value], seed: int = 0) -> float:
        """What a trial reports: the validation loss of one training."""
        return float(self.valid_loss[self.position(decisions), seed])

    def regret(self, number: int) -> float:
        """Mean validation loss above that of the best network."""
        return float(self.mean_valid_loss[number] - self.mean_valid_loss.min())

    def test_regret(self, number: int) -> float:
        """Mean test loss above that of the network of the lowest."""
        return float(self.mean_test_loss[number] - self.mean_test_loss.min())

    def random_search(self, queries: int) -> float:
        """Expected search regret of random search: that of the best network of so many, each drawn at most once.

        Exact: the best is the i-th of all with probability C(N - i, n - 1) / C(N, n).
        """
        return self._best_of(queries, self.mean_valid_loss)

    def random_choice(self, queries: int, seed: int = 0) -> float:
        """Expected regret of the network that looks best to random search, which sees one seed's loss."""
        return self._best_of(queries, self.valid_loss[:, seed])

    def _best_of(self, queries: int, seen: NDArray[np.float64]) -> float:
        regrets = self.mean_valid_loss[np.argsort(seen, kind="stable")] - self.mean_valid_loss.min()
        return float(best_of(len(regrets), queries) @ regrets)


def best_of(count: int, drawn: int) -> NDArray[np.float64]:
    """Probability that the best of ``drawn`` things out of ``count``, without replacement, is the i-th best of all."""
    rank = np.arange(1, count + 1)
    possible = count - rank >= drawn - 1
    log = np.full(count, -np.inf)
    log[possible] = _log_choose(count - rank[possible], drawn - 1) - _log_choose(count, drawn)
    return np.exp(log)


def _log_choose(n: NDArray[np.int_] | int, k: int) -> NDArray[np.float64]:
    return gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(np.asarray(n) - k + 1.0)
