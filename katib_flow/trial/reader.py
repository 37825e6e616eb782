"""What a trial prints, reports and writes -> Metrics, as it comes."""

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

BATCH = 10_000  # metrics taken at a time: a file may hold millions
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
        metrics: what was reported, in order; of very many, those that are kept (see ``Thinning``).
        crowded_out: names that came when there were too many, and that the spec does not name.
        failure: why the metrics could not be read to their end.
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
        self.log.write(data)
        lines = self.lines.split(data, end=end)
        if self._prints:
            self._take_all((metric for line in lines for metric in self._parser.parse(line)), end=end)

    def read_on(self, *, end: bool = False) -> None:
        """Read on in the report file, and where else the metrics come from."""
        reported = (metric for line in self._report_file.read(end=end) for metric in self._parsed(line))
        self._take_all(chain(reported, self.source.read(end=end) if self.source else ()), end=end)

    def _take_all(self, metrics: Iterator[Metric], *, end: bool) -> None:
        """Take metrics as they are read, up to where reading fails."""
        more = True
        while more and not self.failure:
            batch: list[Metric] = []
            try:
                for metric in islice(metrics, BATCH):
                    batch.append(metric)  # noqa: PERF402 - what was read before an error counts
            except FilterTooSlow as error:
                self.failure = str(error)
            self.take(batch)
            more = bool(batch)
        self.take([], end=end)

    def reported(self, line: str) -> None:
        """Take one line in the form of the report file, that came in another way."""
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
        """Remember what a function gave back that is no metric."""
        self.returned = str(report.get("returned", self.returned))
        self.no_metrics.update({str(name): str(what) for name, what in dict(report.get("left_out", {})).items()})

    @property
    def left_out(self) -> Mapping[str, tuple[int, str]]:
        """By metric, how many texts looked like a number and are none, and the last of them."""
        source = self.source.parser.left_out if isinstance(self.source, MetricsFile) else {}
        return {**source, **self._parser.left_out}

    def take(self, metrics: list[Metric], *, end: bool = False) -> None:
        """Add what was reported in some other way; a vector of one is a number where the spec names the metric.

        Args:
            end: keep what was held back to be thinned: the trial has ended.
        """
        names = self.experiment.metric_names
        metrics = [
            replace(each, value=each.value[0])
            if isinstance(each.value, tuple) and len(each.value) == 1 and each.name in names
            else each
            for each in metrics
            if self._has_room(each.name)
        ]
        reductions(metrics, self._reduced)
        self._keep(self.thinning.take(metrics) + (self.thinning.end() if end else []))

    def _has_room(self, name: str) -> bool:
        """Whether a metric is taken: of a trial that makes up names without end, those of the spec still are."""
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
        """What is kept of all tries, as if there had been one, and the observations, over all that was reported."""
        kept = continued(self.earlier, self.metrics)
        reduced = reductions(kept[: len(kept) - len(self.metrics)])
        for name, reduction in self._reduced.items():
            if name in reduced:
                reduced[name].then(reduction)
            else:
                reduced[name] = reduction
        return kept, observations(reduced, self.experiment.metrics.strategy)
