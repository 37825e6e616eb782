"""Where a trial's metrics come from, beside what it prints: a file, TensorBoard's event files, an endpoint."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from katib_flow.history import Metric
from katib_flow.metrics.lines import Lines
from katib_flow.metrics.prometheus import Endpoint
from katib_flow.metrics.tensorboard import EventFiles
from katib_flow.metrics.text import LineParser
from katib_flow.spec.experiment import Experiment


class Source(Protocol):
    """Read again and again while a trial runs, and once with ``end`` when it has ended."""

    def read(self, *, end: bool = False) -> Iterable[Metric]: ...


@runtime_checkable
class Telling(Protocol):
    """A source that knows why it has no value of a metric."""

    def told(self, name: str) -> str:
        """What it has in the place of a metric, for a person."""
        ...


class _Nothing:
    """A source that has nothing: the metrics come in another way."""

    def read(self, *, end: bool = False) -> list[Metric]:
        return []


NOTHING = _Nothing()


@dataclass
class MetricsFile:
    """A file of metric lines."""

    path: Path
    parser: LineParser

    def __post_init__(self) -> None:
        self.lines = Lines(self.path)

    def read(self, *, end: bool = False) -> Iterator[Metric]:
        for line in self.lines.read(end=end):
            yield from self.parser.parse(line)


def source_of(experiment: Experiment, base: Path) -> Source | None:
    """The source that the spec names; None where metrics are printed, or pushed to MLflow.

    Args:
        base: the directory that a relative path starts from.
    """
    spec = experiment.metrics
    if spec.source == "file" and spec.path:
        return MetricsFile(base / spec.path, LineParser.of(experiment))
    if spec.source == "tensorboard" and spec.path:
        return EventFiles(base / spec.path, experiment.metric_names)
    if spec.source == "prometheus" and spec.port:
        return Endpoint(spec.port, spec.path, experiment.metric_names)
    return None
