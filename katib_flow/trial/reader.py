"""What a trial prints, reports and writes -> Metrics, as it comes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from katib_flow.history import Metric
from katib_flow.metrics import LineParser
from katib_flow.metrics.lines import Lines, LineSplitter
from katib_flow.metrics.sources import source_of
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.protocol import TrialDirectory

MAX_METRICS = 200_000  # a trial that reports more is a mistake, and must not take the experiment down with it
OnMetrics = Callable[[Sequence[Metric]], None]


@dataclass
class Reader:
    """Everything that was printed or reported, parsed as it comes."""

    experiment: Experiment
    directory: TrialDirectory
    log: BoundedLog
    on_metrics: OnMetrics
    metrics: list[Metric] = field(default_factory=list[Metric])

    def __post_init__(self) -> None:
        self.lines = LineSplitter()
        self._prints = self.experiment.metrics.source == "stdout"
        self._parser = LineParser.of(self.experiment)
        self._reports, self._reported = LineParser(None, "json"), Lines(self.directory.report_file)
        self._source = source_of(self.experiment, self.directory.path)

    def printed(self, data: bytes, *, end: bool = False) -> None:
        self.log.write(data)
        lines = self.lines.split(data, end=end)
        if self._prints and len(self.metrics) < MAX_METRICS:
            self._emit([metric for line in lines for metric in self._parser.parse(line)])

    def read_on(self, *, end: bool = False) -> None:
        """Read on in the report file, and where else the metrics come from."""
        found = [metric for line in self._reported.read(end=end) for metric in self._parsed(line)]
        self._emit(found + (self._source.read(end=end) if self._source else []))

    def _parsed(self, line: str) -> list[Metric]:
        try:
            report: Any = json.loads(line)
            values: dict[str, Any] = dict(report["metrics"])
        except (ValueError, KeyError, TypeError):
            return []
        step = {} if report.get("step") is None else {"step": report["step"]}
        return self._reports.parse(json.dumps(values | step))

    def _emit(self, metrics: list[Metric]) -> None:
        metrics = metrics[: MAX_METRICS - len(self.metrics)]
        if metrics:
            self.metrics += metrics
            self.on_metrics(metrics)
