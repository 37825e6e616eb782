"""The sources of a trial's metrics other than its output: a file, TensorBoard's event files, an endpoint."""

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
    """A source that is read repeatedly while a trial runs, and once with ``end`` when it has ended."""

    def read(self, *, end: bool = False) -> Iterable[Metric]:
        """The metrics that are new since the last call."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A source that can explain why it has no value for a metric."""

    def absence(self, name: str) -> str:
        """Why a metric has no value, and what the source has instead, for people."""
        ...


class _Nothing:
    """An empty source: the metrics come in another way."""

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
        """The metrics in the lines that are new since the last call."""
        for line in self.lines.read(end=end):
            yield from self.parser.parse(line)


def source_of(experiment: Experiment, base: Path) -> Source | None:
    """The source that the spec names; None if metrics are printed, or pushed to MLflow.

    Args:
        base: the directory that a relative path refers to.
    """
    spec = experiment.metrics
    if spec.source == "file" and spec.path:
        return MetricsFile(base / spec.path, LineParser.of(experiment))
    if spec.source == "tensorboard" and spec.path:
        return EventFiles(base / spec.path, experiment.metric_names)
    if spec.source == "prometheus" and spec.port:
        return Endpoint(spec.port, spec.path, experiment.metric_names)
    return None
