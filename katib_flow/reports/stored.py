"""The report of an experiment in a store: reads the data, and writes the report."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Metric
from katib_flow.tracking.records import Record
from katib_flow.tracking.store import Store

if TYPE_CHECKING:
    from katib_flow.reports.blocks import Report
    from katib_flow.reports.live import Snapshot

FILE = "report.html"
GROWS_SECONDS = 10.0
"""How often a live report is renewed if only the time of running trials has changed."""
LONG_SECONDS = 60.0
"""A shorter experiment stores a report without importance, which would take longer than some experiments."""


def page_of(store: Store, record: Record, history: History | None = None, *, long_seconds: float = 0.0) -> str:
    """The report as HTML.

    Args:
        history: the history, if it is known already, with the run ids of its trials.
        long_seconds: how long an experiment must have run for its report to include importance.

    Raises:
        KatibFlowError: Plotly is not installed, or the store cannot be read.
    """
    from katib_flow.reports.page import html  # imported only if a report is made

    history = store.history(record) if history is None else history
    return html(report_of(store, record, history, long_seconds=long_seconds))


def report_of(store: Store, record: Record, history: History, *, long_seconds: float = 0.0) -> "Report":
    """The report as plain data; see ``page_of``."""
    from katib_flow.reports.sections import report, wanted

    series: dict[str, list[Metric]] = {}
    for request in wanted(record, history):
        for trial_id, metrics in store.curves(request.trials, request.metrics).items():
            series[trial_id] = [*series.get(trial_id, ()), *metrics]
    control, now = store.control(record), record.ended or time.time()
    shares = control.running_seconds(record, now) >= long_seconds
    running = None if record.status.final else now
    return report(record, history, series, control=control, shares=shares, now=running)


def snapshot_of(store: Store, record: Record) -> "Snapshot":
    """The current state of an experiment, for a live report."""
    from katib_flow.reports.live import Snapshot, version_of

    history = store.history(record)
    trials = [
        (trial.id, trial.state, trial.started, trial.ended, trial.message, sorted(trial.observations.items()))
        for trial in history
    ]
    growing = int(time.time() / GROWS_SECONDS) if history.open() and not record.status.final else 0
    version = version_of(record.status, record.reason, record.ended, trials, growing)
    return Snapshot(version, record.status.final, lambda: report_of(store, record, history))


def write_report(store: Store, record: Record, path: Path) -> None:
    """Write the report to a file.

    Raises:
        KatibFlowError: as ``page_of``, or the file cannot be written.
    """
    page = page_of(store, record)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise KatibFlowError(f"{path}: cannot be written: {error.strerror}") from None


def keep_report(store: Store, record: Record, history: History) -> None:
    """Store the report of an ended experiment, if Plotly is installed. A failure is logged as a warning, not raised."""
    from katib_flow.reports.page import plotly_script

    if plotly_script() is None:
        return
    try:
        store.log_text(record, page_of(store, record, history, long_seconds=LONG_SECONDS), FILE)
    except Exception as error:  # noqa: BLE001 - the experiment itself has ended well
        logging.getLogger(__name__).warning("%s: its report was not stored: %s", record.name, error)
