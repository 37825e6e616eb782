"""Thins very many metrics: the number of kept metrics grows with the logarithm of the number of reported ones.

Once a trial has reported ``WHOLE`` numbers, further numbers of each metric are taken in groups, whose size doubles with
every ``LEVEL`` numbers that are kept. The lowest, the highest and the last number of a group are kept, so that the
latest, lowest and highest of all reported numbers are always among them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from katib_flow.history import Metric
from katib_flow.metrics.strategy import Reduction

WHOLE = 100_000
LEVEL = 20_000
GROUP = 8  # numbers in each of the first groups
NAMES = 10_000  # metrics per trial; further ones are ignored unless the spec names them


@dataclass
class _Group:
    """The metrics of one name that wait for their group to be complete; ``low`` ... with their positions in it."""

    size: int = 0
    reduction: Reduction | None = None
    low: tuple[int, Metric] | None = None
    high: tuple[int, Metric] | None = None
    last: tuple[int, Metric] | None = None

    def add(self, metric: Metric) -> None:
        self.size += 1
        self.last = (self.size, metric)
        if isinstance(metric.value, tuple):
            return  # vectors have no order
        before = (self.reduction.low, self.reduction.high) if self.reduction else ()
        self.reduction = self.reduction or Reduction.of(metric.value)
        self.reduction.add(metric.value)
        if before != (self.reduction.low, self.reduction.high):
            self.low = self.last if self.low is None or metric.value == self.reduction.low else self.low
            self.high = self.last if self.high is None or metric.value == self.reduction.high else self.high

    def kept(self) -> list[Metric]:
        """The lowest, the highest and the last metric, in order and without duplicates."""
        by_position = dict(item for item in (self.low, self.high, self.last) if item is not None)
        return [by_position[position] for position in sorted(by_position)]


@dataclass
class Thinning:
    """Takes the metrics of a trial as they are reported, and returns those to keep.

    Attributes:
        reported, kept: the number of reported and of kept numbers; a vector counts with its length.
    """

    reported: int = 0
    kept: int = 0
    _groups: dict[str, _Group] = field(default_factory=dict[str, _Group])

    def take(self, metrics: Iterable[Metric]) -> list[Metric]:
        """The metrics to keep, as far as that is decided; those of one name are in order."""
        return list(self._taken(metrics))

    def end(self) -> list[Metric]:
        """The metrics to keep of the incomplete groups, at the end of the reports."""

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
