"""More metrics than are worth keeping -> those that are kept: as many as the logarithm of what was reported.

Once a trial has reported ``WHOLE`` numbers, the numbers of each metric that follow are taken in groups, whose size
doubles for every ``LEVEL`` that are kept. Of a group the lowest, the highest and the last stay, so that the latest, the
lowest and the highest of all that was reported are always among what is kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from katib_flow.history import Metric
from katib_flow.metrics.strategy import Reduction

WHOLE = 100_000
LEVEL = 20_000
GROUP = 8  # numbers in one of the first groups
NAMES = 10_000  # metrics of a trial; those beyond that no spec names are left out


@dataclass
class _Group:
    """The metrics of one name that wait until there are enough of them; each beside its place among them."""

    size: int = 0
    reduction: Reduction | None = None
    low: tuple[int, Metric] | None = None
    high: tuple[int, Metric] | None = None
    last: tuple[int, Metric] | None = None

    def add(self, metric: Metric) -> None:
        self.size += 1
        self.last = (self.size, metric)
        if isinstance(metric.value, tuple):
            return  # a vector has no lowest and no highest
        before = (self.reduction.low, self.reduction.high) if self.reduction else ()
        self.reduction = self.reduction or Reduction.of(metric.value)
        self.reduction.add(metric.value)
        if before != (self.reduction.low, self.reduction.high):
            self.low = self.last if self.low is None or metric.value == self.reduction.low else self.low
            self.high = self.last if self.high is None or metric.value == self.reduction.high else self.high

    def kept(self) -> list[Metric]:
        """The lowest, the highest and the last, in their order; one that is two of these, once."""
        several = dict(place for place in (self.low, self.high, self.last) if place is not None)
        return [several[place] for place in sorted(several)]


@dataclass
class Thinning:
    """Takes the metrics of a trial as they come, and gives those that are kept.

    Attributes:
        reported, kept: how many numbers there were, and how many stayed; a vector counts as its length.
    """

    reported: int = 0
    kept: int = 0
    _groups: dict[str, _Group] = field(default_factory=dict[str, _Group])

    def take(self, metrics: Iterable[Metric]) -> list[Metric]:
        """What is kept, as far as that is known; in the order in which each metric came."""
        return list(self._taken(metrics))

    def end(self) -> list[Metric]:
        """What is kept of the groups that are not full; nothing follows for now."""
        groups, self._groups = self._groups, {}
        return [self._count(metric) for group in groups.values() for metric in group.kept()]

    def _taken(self, metrics: Iterable[Metric]) -> Iterator[Metric]:
        for metric in metrics:
            self.reported += _numbers(metric)
            if self.kept < WHOLE:
                yield self._count(metric)
                continue
            group = self._groups.setdefault(metric.name, _Group())
            group.add(metric)
            if group.size >= GROUP << ((self.kept - WHOLE) // LEVEL):
                del self._groups[metric.name]
                yield from map(self._count, group.kept())

    def _count(self, metric: Metric) -> Metric:
        self.kept += _numbers(metric)
        return metric


def _numbers(metric: Metric) -> int:
    return len(metric.value) if isinstance(metric.value, tuple) else 1
