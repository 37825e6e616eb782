"""Reads metrics, as they appear, from a trial's output, report file and other sources."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from katib_flow.history import Metric, continued
from katib_flow.metrics import LineParser
from katib_flow.metrics.lines import Lines, LineSplitter
from katib_flow.metrics.sources import MetricsFile, Source, source_of
from katib_flow.metrics.strategy import Reduction, observations, reductions
from katib_flow.metrics.text import FilterTooSlow, now_ms
from katib_flow.metrics.thinning import NAMES, Thinning
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.protocol import TrialDirectory

BATCH = 10_000  # metrics processed at a time: a file may hold millions
OnMetrics = Callable[[Sequence[Metric]], None]


@dataclass
class Reader:
    """The metrics of one trial, parsed as they appear.

    Attributes:
        on_metrics: called with new metrics.
        source: another source of metrics; by default that of the spec.
        earlier: the metrics of earlier attempts, if the trial continues from a checkpoint.
        clock: the time, in milliseconds, for lines that state none.
        metrics: the reported metrics, in order; thinned if there are very many (see ``Thinning``).
        reported_names: the names of metrics that were reported rather than printed.
        returned: a description of a function's result that is not a metric.
        no_metrics: descriptions of other values in a function's result, by name.
        crowded_out: the number of reports ignored because of too many names, none of which is in the spec.
        failure: why the metrics could not be read completely; "" if they could.
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
    thinning: Thinning = field(default_factory=Thinning)
    crowded_out: int = 0
    failure: str = ""
    _reduced: dict[str, Reduction] = field(default_factory=dict[str, Reduction])
    _names: set[str] = field(default_factory=set[str])

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
        """Take output of the program; ``end`` says that there is no more."""
        self.log.write(data)
        lines = self.lines.split(data, end=end)
        if self._prints:
            self._take_all((metric for line in lines for metric in self._parser.parse(line)), end=end)

    def read_on(self, *, end: bool = False) -> None:
        """Read what is new in the report file and in the other source."""
        reported = (metric for line in self._report_file.read(end=end) for metric in self._parsed(line))
        self._take_all(chain(reported, self.source.read(end=end) if self.source else ()), end=end)

    def _take_all(self, metrics: Iterator[Metric], *, end: bool) -> None:
        """Take metrics as they are read, until reading fails."""
        more = True
        while more and not self.failure:
            batch: list[Metric] = []
            try:
                for metric in islice(metrics, BATCH):
                    batch.append(metric)  # noqa: PERF402 - metrics read before an error count
            except FilterTooSlow as error:
                self.failure = str(error)
            self.take(batch)
            more = bool(batch)
        self.take([], end=end)

    def reported(self, line: str) -> None:
        """Take one line in the format of the report file that was received in another way."""
        self.take(self._parsed(line))

    def _parsed(self, line: str) -> list[Metric]:
        try:
            report: dict[str, Any] = dict(json.loads(line))
            self._remark(report)
            values: dict[str, Any] = dict(report["metrics"])
        except (ValueError, KeyError, TypeError, RecursionError):  # a log may hold anything
            return []
        step = {} if report.get("step") is None else {"step": report["step"]}
        metrics = self._reports.parse(json.dumps(values | step))
        self.reported_names.update(metric.name for metric in metrics)
        return metrics

    def _remark(self, report: Mapping[str, Any]) -> None:
        """Remember values in a function's result that are not metrics."""
        self.returned = str(report.get("returned", self.returned))
        self.no_metrics.update({str(name): str(what) for name, what in dict(report.get("left_out", {})).items()})

    @property
    def left_out(self) -> Mapping[str, tuple[int, str]]:
        """By metric: how many texts look like a number but are not, and the last of them."""
        source = self.source.parser.left_out if isinstance(self.source, MetricsFile) else {}
        return {**source, **self._parser.left_out}

    def take(self, metrics: list[Metric], *, end: bool = False) -> None:
        """Add metrics; a vector of length one is a number if the spec names the metric.

        Args:
            end: the trial has ended: also take the metrics that thinning has held back.
        """
        names = self.experiment.metric_names
        metrics = [
            replace(metric, value=metric.value[0])
            if isinstance(metric.value, tuple) and len(metric.value) == 1 and metric.name in names
            else metric
            for metric in metrics
            if self._has_room(metric.name)
        ]
        reductions(metrics, self._reduced)
        self._keep(self.thinning.take(metrics) + (self.thinning.end() if end else []))

    def _has_room(self, name: str) -> bool:
        """True if a metric is taken: names in the spec always are, others up to a limit."""
        if name not in self._names and len(self._names) >= NAMES and name not in self.experiment.metric_names:
            self.crowded_out += 1
            return False
        self._names.add(name)
        return True

    def _keep(self, metrics: list[Metric]) -> None:
        if metrics:
            self.metrics += metrics
            self.on_metrics(metrics)

    def concluded(self) -> tuple[list[Metric], dict[str, float]]:
        """The metrics of all attempts, as if there had been one, and the observations over all reported values."""
        kept = continued(self.earlier, self.metrics)
        reduced = reductions(kept[: len(kept) - len(self.metrics)])
        for name, reduction in self._reduced.items():
            if name in reduced:
                reduced[name].then(reduction)
            else:
                reduced[name] = reduction
        return kept, observations(reduced, self.experiment.metrics.strategy)
