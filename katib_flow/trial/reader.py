"""What a trial prints, reports and writes -> Metrics, as it comes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from katib_flow.history import Metric
from katib_flow.metrics import LineParser
from katib_flow.metrics.lines import Lines, LineSplitter
from katib_flow.metrics.sources import MetricsFile, Source, source_of
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.protocol import TrialDirectory

MAX_METRICS = 200_000  # a trial that reports more is a mistake, and must not take the experiment down with it
OnMetrics = Callable[[Sequence[Metric]], None]


@dataclass
class Reader:
    """Everything that was printed or reported, parsed as it comes.

    Attributes:
        source: where metrics come from beside; the spec's, where it is not given.
        earlier: what earlier tries reported, of a trial that goes on from a checkpoint.
        clock: the time of a line that tells none, in milliseconds.
        returned: what a function gave back where that is no metric, for a person.
        reported_names: of the metrics that were reported rather than printed.
        no_metrics: what a function gave back beside its metrics, by name, for a person.
    """

    experiment: Experiment
    directory: TrialDirectory
    log: BoundedLog
    on_metrics: OnMetrics
    source: Source | None = None
    earlier: Sequence[Metric] = ()
    clock: Callable[[], int] = now_ms
    metrics: list[Metric] = field(default_factory=list[Metric])
    reported_names: set[str] = field(default_factory=set[str])
    returned: str = ""
    no_metrics: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.lines = LineSplitter()
        self._prints = self.experiment.metrics.source == "stdout"
        self._parser = replace(LineParser.of(self.experiment), clock=lambda: self.clock())
        self._reports, self._report_file = (
            LineParser(None, "json", clock=lambda: self.clock()),
            Lines(self.directory.report_file),
        )
        self.source = self.source or source_of(self.experiment, self.directory.path)

    def printed(self, data: bytes, *, end: bool = False) -> None:
        self.log.write(data)
        lines = self.lines.split(data, end=end)
        if self._prints and len(self.metrics) < MAX_METRICS:
            self.take([metric for line in lines for metric in self._parser.parse(line)])

    def read_on(self, *, end: bool = False) -> None:
        """Read on in the report file, and where else the metrics come from."""
        found = [metric for line in self._report_file.read(end=end) for metric in self._parsed(line)]
        self.take(found + (self.source.read(end=end) if self.source else []))

    def reported(self, line: str) -> None:
        """Take one line in the form of the report file, that came in another way."""
        self.take(self._parsed(line))

    def _parsed(self, line: str) -> list[Metric]:
        try:
            report: dict[str, Any] = dict(json.loads(line))
            self._remark(report)
            values: dict[str, Any] = dict(report["metrics"])
        except (ValueError, KeyError, TypeError):
            return []
        step = {} if report.get("step") is None else {"step": report["step"]}
        metrics = self._reports.parse(json.dumps(values | step))
        self.reported_names.update(metric.name for metric in metrics)
        return metrics

    def _remark(self, report: Mapping[str, Any]) -> None:
        """Remember what a function gave back that is no metric."""
        self.returned = str(report.get("returned", self.returned))
        self.no_metrics.update({str(name): str(what) for name, what in dict(report.get("left_out", {})).items()})

    @property
    def left_out(self) -> Mapping[str, tuple[int, str]]:
        """By metric, how many texts looked like a number and are none, and the last of them."""
        source = self.source.parser.left_out if isinstance(self.source, MetricsFile) else {}
        return {**source, **self._parser.left_out}

    def take(self, metrics: list[Metric]) -> None:
        """Add what was reported in some other way; a vector of one is a number where the spec names the metric."""
        names = self.experiment.metric_names
        metrics = [
            replace(each, value=each.value[0])
            if isinstance(each.value, tuple) and len(each.value) == 1 and each.name in names
            else each
            for each in metrics
        ]
        metrics = metrics[: MAX_METRICS - len(self.metrics)]
        if metrics:
            self.metrics += metrics
            self.on_metrics(metrics)
