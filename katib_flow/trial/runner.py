"""Run one trial as a process, to its end, whatever it does: read its metrics live, keep its log, stop it when asked."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.history import Metric, State, Suggestion, Trial
from katib_flow.metrics import LineParser, observe
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.template import substitute_all
from katib_flow.trial.functions import Function, die_with_parent, fork_function, load_function
from katib_flow.trial.log import BoundedLog, LineSplitter
from katib_flow.trial.protocol import TrialDirectory, assigned, substitutions

POLL_SECONDS = 0.1
MAX_METRICS = 200_000  # a trial that reports more is a mistake, and must not take the experiment down with it
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
MACHINE_SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT)

OnMetrics = Callable[[Sequence[Metric]], None]
Stop = Callable[[], State | None]
"""Asked often while a trial runs; answers EARLY_STOPPED or KILLED to end it, None to let it run."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        metrics: everything it reported, in order.
        fault: whether the machine, not the trial, is to blame, so that it may be tried again.
    """

    state: State
    message: str = ""
    metrics: tuple[Metric, ...] = ()
    started: float = 0.0
    ended: float = 0.0
    fault: bool = False

    def applied_to(self, trial: Trial, experiment: Experiment) -> Trial:
        """The trial in its final state."""
        observations = observe(self.metrics, experiment.metrics.strategy)
        series: dict[str, tuple[Metric, ...]] = {}
        for metric in self.metrics:
            series[metric.name] = (*series.get(metric.name, ()), metric)
        return replace(
            trial,
            state=self.state,
            message=self.message,
            observations=observations,
            series=series,
            started=trial.started or self.started,
            ended=self.ended,
        )


@dataclass
class _Process:
    """A trial's process: leader of its own group, its output in a pipe."""

    pid: int
    output: int
    exit_status: int | None = None
    signalled_at: float | None = None
    killed: bool = False
    reason: State | None = None
    timed_out: bool = False

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.exit_status is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.exit_status = os.waitstatus_to_exitcode(status)
        return self.exit_status

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self, now: float) -> None:
        """SIGTERM first, SIGKILL when the grace period is over. Called again and again until it has ended."""
        if self.signalled_at is None:
            self.signalled_at = now
            self.send(signal.SIGTERM)
        elif now - self.signalled_at > GRACE_SECONDS and not self.killed:
            self.killed = True
            self.send(signal.SIGKILL)


@dataclass
class _Reader:
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


def run_trial(
    experiment: Experiment,
    suggestion: Suggestion,
    directory: TrialDirectory,
    *,
    on_metrics: OnMetrics,
    stop: Stop,
    function: Function | None = None,
) -> Outcome:
    """Run a function or command trial to its end.

    Args:
        on_metrics: called with metrics as they are reported.
        stop: see ``Stop``.
        function: the function of a function trial, where it is at hand; else it is imported.

    Raises:
        KatibFlowError: the trial cannot be started here at all.
    """
    directory.create(experiment, suggestion)
    started = time.time()
    try:
        process = _start(experiment, suggestion, directory, function)
    except OSError as error:
        directory.log.write_text(f"{error}\n")
        return Outcome(State.FAILED, f"cannot be started: {error}", started=started, ended=time.time())
    with BoundedLog(directory.log) as log:
        reader = _Reader(experiment, directory, log, on_metrics)
        try:
            _supervise(process, reader, stop, experiment.limits.trial_timeout)
        finally:
            process.send(signal.SIGKILL)  # what the trial left running in its group
            os.close(process.output)
    return _outcome(experiment, directory, process, reader, started)


def _start(experiment: Experiment, suggestion: Suggestion, directory: TrialDirectory, function: Function | None) -> _Process:
    template = experiment.trial
    environment = directory.environment(template.env)
    if template.function is not None:
        function = function or load_function(template.function)
        error_file = str(directory.path / "error.json")
        Path(error_file).unlink(missing_ok=True)
        objective = experiment.objective[0].metric
        return _Process(*fork_function(function, assigned(experiment, suggestion), objective, environment, error_file))
    if template.command is None:
        raise KatibFlowError(
            f"trial.{template.kind}: runs on Argo only (katib-flow compile, katib-flow submit); function and command run here"
        )
    argv = substitute_all(template.command, substitutions(experiment, suggestion, directory))
    child = subprocess.Popen(  # an argument list: no shell ever reads a parameter's value
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )  # fmt: skip
    assert child.stdout is not None
    output = os.dup(child.stdout.fileno())
    child.stdout.close()
    child.returncode = 0  # it is waited for here, not by Popen
    return _Process(child.pid, output)


def _supervise(process: _Process, reader: _Reader, stop: Stop, timeout: float | None) -> None:
    """Read until the process has ended and its output is read, ending it when asked to or when its time is over."""
    os.set_blocking(process.output, False)
    begun = time.monotonic()
    open_ = True
    with selectors.DefaultSelector() as selector:
        selector.register(process.output, selectors.EVENT_READ)
        while process.poll() is None or open_:
            if open_:
                ready = selector.select(POLL_SECONDS if process.exit_status is None else 0)
                if ready:
                    open_ = _read_some(process.output, reader)
                    if not open_:
                        selector.unregister(process.output)
                elif process.exit_status is not None:
                    break  # a grandchild holds the pipe open; nobody waits for it
            else:
                time.sleep(0.001)  # between the end of the output and the end of the process
            reader.read_files() if process.exit_status is None else None
            _end_if_due(process, stop, timeout, begun)
    reader.printed(b"", end=True)
    reader.read_files(end=True)


def _read_some(output: int, reader: _Reader) -> bool:
    """Read what is there; False at the end of the output."""
    try:
        data = os.read(output, 1 << 18)
    except BlockingIOError:
        return True
    if data:
        reader.printed(data)
    return bool(data)


def _end_if_due(process: _Process, stop: Stop, timeout: float | None, begun: float) -> None:
    now = time.monotonic()
    if process.reason is None and not process.timed_out:
        process.reason = stop()
        process.timed_out = process.reason is None and timeout is not None and now - begun > timeout
    if process.reason is not None or process.timed_out:
        process.end(now)


def _outcome(experiment: Experiment, directory: TrialDirectory, process: _Process, reader: _Reader, started: float) -> Outcome:
    code = process.exit_status
    observed = observe(reader.metrics, experiment.metrics.strategy)
    missing = [objective.metric for objective in experiment.objective if objective.metric not in observed]
    fault = False
    if process.timed_out:
        state, message = State.FAILED, f"ran for longer than limits.trial_timeout, {experiment.limits.trial_timeout:g} s"
    elif process.reason is State.KILLED:
        state, message = State.KILLED, "ended before it had finished, on request"
    elif process.reason is State.EARLY_STOPPED:
        state, message = State.EARLY_STOPPED, "stopped early"
    elif code:
        fault = -code in MACHINE_SIGNALS
        state, message = State.FAILED, _failure(code, directory, reader)
    elif missing:
        state, message = State.METRICS_UNAVAILABLE, _unavailable(missing, reader)
    else:
        state, message = State.SUCCEEDED, ""
    return Outcome(state, message, tuple(reader.metrics), started, now_ms() / 1000, fault)


def _failure(code: int, directory: TrialDirectory, reader: _Reader) -> str:
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads((directory.path / "error.json").read_text()))
    last = f"; its last line was {_cut(reader.lines.last)}" if reader.lines.last else "; it printed nothing"
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}{last}"
    return f"exit code {code}{last}"


def _unavailable(missing: list[str], reader: _Reader) -> str:
    what = " and ".join(repr(name) for name in missing)
    if not reader.lines.count:
        return f"{what} was not reported: the trial printed nothing"
    return f"none of {reader.lines.count} log lines reports {what}; the last was {_cut(reader.lines.last)} (names are case-sensitive)"


def _cut(text: str) -> str:
    return json.dumps(text[:200], ensure_ascii=False)
