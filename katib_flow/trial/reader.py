"""What a trial prints, reports and writes -> Metrics, as it comes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from katib_flow.history import Metric
from katib_flow.metrics import LineParser
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.log import BoundedLog, LineSplitter
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
        spec = self.experiment.metrics
        self.lines = LineSplitter()
        self._parser = LineParser.of(self.experiment)
        self._reports = LineParser(None, "json")
        self._report_lines, self._file_lines = LineSplitter(), LineSplitter()
        self._tails: dict[Path, int] = {self.directory.report_file: 0}
        self._metrics_file = self.directory.path / spec.path if spec.source == "file" and spec.path else None
        if self._metrics_file:
            self._tails[self._metrics_file] = 0

    def printed(self, data: bytes, *, end: bool = False) -> None:
        self.log.write(data)
        lines = self.lines.split(data, end=end)
        if self.experiment.metrics.source == "stdout" and len(self.metrics) < MAX_METRICS:
            self._emit([metric for line in lines for metric in self._parser.parse(line)])

    def read_files(self, *, end: bool = False) -> None:
        """Read on in the report file and the metrics file."""
        found: list[Metric] = []
        for line in self._report_lines.split(self._tail(self.directory.report_file), end=end):
            found += self._reported(line)
        if self._metrics_file:
            for line in self._file_lines.split(self._tail(self._metrics_file), end=end):
                found += self._parser.parse(line)
        self._emit(found)

    def _tail(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(self._tails[path])
                data = file.read()
        except OSError:
            return b""
        self._tails[path] += len(data)
        return data

    def _reported(self, line: str) -> list[Metric]:
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
