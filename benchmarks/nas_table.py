"""The table of NB-digits as an objective that answers at once, and the exact curve of random search on it.

A search sees the ``valid_loss`` of one seed. Searches are compared by ``regret``, the mean validation loss of a network
minus that of the best, or by ``test_regret``, the same on images that no search has seen. Lower is better.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import spearmanr

from katib_flow.history import Value
from katib_flow.models.presets import space_of
from katib_flow.models.space import Space
from katib_flow.spec.sections import Architecture
from katib_flow.trial.user import topology

TABLE = Path(__file__).parent / "tables" / "nas-digits.npz"
ARCHITECTURE = {"space": "cell", "settings": {"operations": ["none", "skip", "conv3", "avg3"]}}
"""The section ``architecture`` of a spec that searches this space."""

OPERATIONS = ("none", "skip", "conv3", "avg3")
DRAWS = 2_000  # simulated random searches, for their mean
Floats = NDArray[np.float64]

TRAIN_LOSS, VALID_LOSS, VALID_ACCURACY = range(3)


@lru_cache(maxsize=1)
def space() -> Space:
    """The space that the table covers: six slots with four operations each."""
    return space_of(Architecture.model_validate(ARCHITECTURE))


def codes() -> Iterator[tuple[int, ...]]:
    """Every assignment as tokens (``Space.encode``), with the last slot changing fastest."""
    return itertools.product(range(4), repeat=6)


@dataclass(frozen=True)
class Table:
    """Every network of the space, trained with one or more seeds.

    Attributes:
        hashes: ``Topology.hash`` of each network, shape (network,).
        class_of_code: position of the network of each code, in the order of ``codes``, shape (code,).
        epochs: shape (network, seed, epoch, column); ``TRAIN_LOSS`` and the others number the columns.
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
        """Read the table from an .npz file."""
        with np.load(path, allow_pickle=False) as file:
            return cls(*(file[name] for name in ("hashes", "class_of_code", "epochs", "test", "parameters", "flops")))

    def class_of(self, tokens: Sequence[int]) -> int:
        """Position in the table of the network with these tokens."""
        code = 0
        for token in tokens:
            code = 4 * code + int(token)
        return int(self.class_of_code[code])

    def position(self, decisions: Mapping[str, Value]) -> int:
        """Position in the table of the network of an assignment."""
        return self.class_of(space().encode(decisions))

    @cached_property
    def by_hash(self) -> Mapping[str, int]:
        """Position in the table by ``Topology.hash``."""
        return {str(digest): number for number, digest in enumerate(self.hashes)}

    @cached_property
    def valid_loss(self) -> NDArray[np.float64]:
        """Validation loss after the last epoch, shape (network, seed)."""
        return self.epochs[:, :, -1, VALID_LOSS].astype(float)

    @cached_property
    def valid_accuracy(self) -> NDArray[np.float64]:
        """Validation accuracy after the last epoch, shape (network, seed)."""
        return self.epochs[:, :, -1, VALID_ACCURACY].astype(float)

    @cached_property
    def mean_valid_loss(self) -> NDArray[np.float64]:
        """Validation loss after the last epoch, mean over the seeds, shape (network,)."""
        return self.valid_loss.mean(axis=1)

    @cached_property
    def mean_test_loss(self) -> NDArray[np.float64]:
        """Test loss after the last epoch, mean over the seeds, shape (network,)."""
        return self.test[:, :, 0].astype(float).mean(axis=1)

    @property
    def seeds(self) -> int:
        """Number of trainings of each network."""
        return self.epochs.shape[1]

    def query(self, decisions: Mapping[str, Value], seed: int = 0) -> float:
        """The validation loss that a trial reports, that of one training."""
        return float(self.valid_loss[self.position(decisions), seed])

    def regret(self, number: int) -> float:
        """Mean validation loss of a network minus that of the best."""
        return float(self.mean_valid_loss[number] - self.mean_valid_loss.min())

    def test_regret(self, number: int) -> float:
        """Mean test loss of a network minus the lowest."""
        return float(self.mean_test_loss[number] - self.mean_test_loss.min())

    def random_search(self, queries: int) -> float:
        """Expected regret of the best network that random search meets, if it draws no network twice.

        Exact: the best of n is the i-th of all N with probability C(N - i, n - 1) / C(N, n).
        """
        return self._best_of(queries, self.mean_valid_loss)

    def random_choice(self, queries: int, seed: int = 0) -> float:
        """Expected regret of the network that looks best to random search, which sees the loss of one seed."""
        return self._best_of(queries, self.valid_loss[:, seed])

    def _best_of(self, queries: int, seen: NDArray[np.float64]) -> float:
        regrets = self.mean_valid_loss[np.argsort(seen, kind="stable")] - self.mean_valid_loss.min()
        return float(best_of(len(regrets), queries) @ regrets)


def look_up(seed: int = 0) -> dict[str, float]:
    """Look the network of the current trial up in the table; the function of a trial in place of a training.

    Args:
        seed: the training whose loss is reported.
    """
    table = Table.load()
    number = table.by_hash[topology().hash]
    return {"loss": float(table.valid_loss[number, seed]), "regret": table.regret(number)}


class Bounded:
    """The networks of the table within a bound on the number of parameters.

    Attributes:
        inside: their positions in the table.
        seen: the validation loss of one training of every network of the table.
    """

    def __init__(self, table: Table, bound: int | None) -> None:
        self.table = table
        self.inside = np.flatnonzero(table.parameters <= (bound or np.inf))
        self.seen = table.valid_loss[:, 0]

    def rank(self, numbers: Sequence[int] | NDArray[np.intp]) -> Floats:
        """The share of networks within the bound that are better, from 0 for the best, shape (number,)."""
        loss = self.table.mean_valid_loss
        return np.array([(loss[self.inside] < loss[number]).mean() for number in numbers])

    def choice(self, numbers: Sequence[int] | NDArray[np.intp]) -> int:
        """The network that looks best after one training of each."""
        return int(min(numbers, key=self.seen.__getitem__))

    def best(self, numbers: Sequence[int] | NDArray[np.intp]) -> int:
        """The network that is best by the mean of its trainings."""
        return int(min(numbers, key=self.table.mean_valid_loss.__getitem__))

    def random(self, trainings: int, chances: Floats, *, seen: bool = True) -> Floats:
        """Ranks that random search reaches, shape (draw,).

        Args:
            chances: the relative probability of each code, shape (code,).
            seen: take the network that looks best after one training; otherwise the best that was trained.
        """
        networks = np.bincount(self.table.class_of_code, weights=chances, minlength=len(self.seen))[self.inside]
        networks /= networks.sum()
        rng, count = np.random.default_rng(0), min(trainings, int((networks > 0).sum()))
        draws = (rng.choice(self.inside, size=count, replace=False, p=networks) for _ in range(DRAWS))
        return self.rank([self.choice(draw) if seen else self.best(draw) for draw in draws])

    def rules(self) -> Iterator[tuple[str, float]]:
        """Rules that search nothing, with their ranks; the mean rank if several networks are the largest."""
        largest = self.largest()
        yield f"largest ({len(largest)})", float(self.rank(largest).mean())
        yield from ((rule, float(self.rank([number])[0])) for rule, number in self.simple())

    def simple(self) -> Iterator[tuple[str, int]]:
        """The networks with one operation on every edge, if they are within the bound."""
        for token, name in enumerate(OPERATIONS):
            number = self.table.class_of((token,) * 6)
            if number in self.inside:
                yield f"all {name}", number

    def largest(self) -> NDArray[np.intp]:
        """The networks with the most parameters within the bound."""
        size = self.table.parameters[self.inside]
        return self.inside[size == size.max()]


def agreement(table: Table) -> str:
    """Rank correlation of the losses of two trainings, over all networks and over the best fifth by a third training.

    The third training selects the networks, since a selection by the two that are compared would bias the correlation.
    """
    loss, rows = table.valid_loss, []
    for one, other in itertools.combinations(range(table.seeds), 2):
        third = next(seed for seed in range(table.seeds) if seed not in (one, other))
        best = np.argsort(loss[:, third])[: len(loss) // 5]
        rows.append((spearman(loss[:, one], loss[:, other]), spearman(loss[best, one], loss[best, other])))
    return "; ".join(f"{every:.2f}, {top:.2f}" for every, top in rows)


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(one, other).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def best_of(count: int, drawn: int) -> NDArray[np.float64]:
    """Probability that the best of ``drawn`` items out of ``count``, without replacement, is the i-th best of all."""
    rank = np.arange(1, count + 1)
    possible = count - rank >= drawn - 1
    log = np.full(count, -np.inf)
    log[possible] = _log_choose(count - rank[possible], drawn - 1) - _log_choose(count, drawn)
    return np.exp(log)


def _log_choose(n: NDArray[np.int_] | int, k: int) -> NDArray[np.float64]:
    return gammaln(np.asarray(n) + 1.0) - gammaln(k + 1.0) - gammaln(np.asarray(n) - k + 1.0)
