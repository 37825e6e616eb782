"""Runs one trial as a process until it ends: reads its metrics as they appear, keeps its log, stops it on request."""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from katib_flow.errors import KatibFlowError
from katib_flow.history import Metric, State, Suggestion, Value
from katib_flow.metrics.katib import KatibReports, reports_of
from katib_flow.metrics.sources import Source
from katib_flow.processes import die_with
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.files import located
from katib_flow.spec.template import substitute_all, substitute_env
from katib_flow.trial.diagnosis import collector_failure
from katib_flow.trial.functions import Function, fork_function, load_function, not_for_trials
from katib_flow.trial.log import BoundedLog
from katib_flow.trial.outcome import Ending, Outcome, StopTrial, conclude
from katib_flow.trial.protocol import (
    COLLECT_SECONDS,
    ENDED_FILE,
    TrialDirectory,
    called_with,
    substitutions,
    trial_name,
)
from katib_flow.trial.reader import OnMetrics, Reader
from katib_flow.trial.tracked import Tracked
from katib_flow.trial.tree import end_left_over, forget, note

POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
DRAIN_SECONDS = 1.0  # for the rest of the output, if another process still writes to the pipe of an ended program

Stop = Callable[[], StopTrial | None]
"""Called often while a trial runs; returns a request to end it, or None to let it run."""


@dataclass
class _Process:
    """The process of a trial, which leads its own process group and writes to a pipe."""

    pid: int
    output: int
    exit_code: int | None = None
    signalled_at: float | None = None
    killed: bool = False
    request: StopTrial | None = None
    timed_out: bool = False

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.exit_code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code

    def wait(self, seconds: float) -> None:
        """Wait for its end for at most ``seconds``; a millisecond if the system has no pidfds."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
            time.sleep(0.001)
            return
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            ended.poll(1000 * seconds)
        finally:
            os.close(pidfd)

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self, now: float) -> None:
        """Send SIGTERM, and SIGKILL once the grace period is over. Call it repeatedly until the process has ended."""
        if self.signalled_at is None:
            self.signalled_at = now
            self.send(signal.SIGTERM)
        elif now - self.signalled_at > GRACE_SECONDS and not self.killed:
            self.killed = True
            self.send(signal.SIGKILL)


def run_trial(
    experiment: Experiment,
    suggestion: Suggestion,
    directory: TrialDirectory,
    *,
    on_metrics: OnMetrics,
    stop: Stop,
    function: Function | None = None,
    source: Source | None = None,
    earlier: Sequence[Metric] = (),
    tracked: Tracked | None = None,
    katib_port: int = 0,
) -> Outcome:
    """Run a function or command trial to its end.

    Args:
        on_metrics: called with metrics as they are reported.
        stop: see ``Stop``.
        function: the function of a function trial, if it does not have to be imported.
        source: a source of metrics that replaces that of the spec.
        earlier: the metrics of earlier attempts, if the trial continues from its checkpoint.
        tracked: where the trial is recorded, for its use of MLflow; by default, MLflow's environment of this process.
        katib_port: the port for reports in Katib's protocol, unless the spec names one; 0 for any free port.

    Raises:
        KatibFlowError: trials of this kind cannot run on this machine.
    """
    end_left_over(directory)
    directory.create(experiment, suggestion)
    started = time.time()
    if experiment.architecture is not None:
        try:
            prepare_model(experiment, suggestion, directory)
        except KatibFlowError as error:
            return Outcome(State.FAILED, f"no model: {error}", started=started, ended=time.time())
    try:
        reports = reports_of(experiment, trial_name(experiment, suggestion), katib_port)
    except KatibFlowError as error:
        return Outcome(State.FAILED, f"cannot be started: {error}", started=started, ended=time.time())
    with reports or contextlib.nullcontext():
        given = _Given(experiment, suggestion, directory, tracked, reports)
        with BoundedLog(directory.log) as log:
            reader = Reader(experiment, directory, log, on_metrics, source or reports, earlier)
            try:
                process = _start(given, function)
            except (OSError, ValueError) as error:  # ValueError: a NUL in an argument, a '=' in a variable's name
                log.write(f"{error}\n".encode())
                return Outcome(State.FAILED, f"cannot be started: {error}", started=started, ended=time.time())
            with _ended(process, directory):
                _supervise(process, reader, stop, experiment.limits.trial_timeout)
            ending = Ending(process.exit_code, process.request, process.timed_out)
            if experiment.metrics.command is not None and ending == Ending(0):
                ending = _collect(given, experiment.metrics.command, reader, stop)
    return conclude(experiment, directory, ending, reader, started)


def _collect(given: "_Given", command: Sequence[str], reader: Reader, stop: Stop) -> Ending:
    """Run the user's own collector after a trial that has ended well; how both have ended."""
    directory = given.directory
    directory.ended_file.write_text("0\n")
    try:
        process = _run(given, command, {ENDED_FILE: str(directory.ended_file)})
    except (OSError, ValueError) as error:
        reader.failure = f"metrics.command cannot be started: {error}"
        return Ending(0)
    reader.lines.last = ""  # from here on, the collector's last line
    with _ended(process, directory):
        _supervise(process, reader, stop, COLLECT_SECONDS)
    if not process.request:
        code = None if process.timed_out else process.exit_code
        reader.failure = reader.failure or collector_failure("metrics.command", code, reader.lines.last)
    return Ending(0, process.request)


@contextlib.contextmanager
def _ended(process: _Process, directory: TrialDirectory) -> Generator[None]:
    """Kill a process at the end of the block; until then, its directory names it for ``end_left_over``."""
    try:
        yield
    finally:
        process.send(signal.SIGKILL)
        os.close(process.output)
        forget(directory)


def _begun(directory: TrialDirectory, worker: int) -> None:
    """Called first in a trial's process: it dies with its worker, and its directory names it for ``end_left_over``.

    The worker could be killed before it names the process, which may have started others by then.
    """
    die_with(worker)
    with contextlib.suppress(OSError):  # without a file, only its own worker can end it
        note(directory, os.getpid())


def prepare_model(experiment: Experiment, suggestion: Suggestion, directory: TrialDirectory) -> None:
    """Write the model of a suggestion into its directory, with the weights inherited from its parent.

    Raises:
        KatibFlowError: the topology is invalid, or the parent's model cannot be read.
    """
    from katib_flow.models.manager import build_model

    build_model(
        architectures(experiment),
        directory.model,
        topology=suggestion.topology,
        decisions=suggestion.assignment,
        parent=directory.parent_model if suggestion.parent is not None else None,
    )


def environment_of(
    experiment: Experiment,
    suggestion: Suggestion,
    directory: TrialDirectory,
    tracked: Tracked | None,
    reporting: Mapping[str, str],
) -> dict[str, str]:
    """The environment of a function or command trial.

    Args:
        reporting: variables for reports in Katib's protocol; empty if it does not use it.
    """
    values = _values(experiment, suggestion, directory, tracked)
    return directory.environment({**reporting, **substitute_env(experiment.trial.env, values)}, tracked)


def argv_of(
    experiment: Experiment, suggestion: Suggestion, directory: TrialDirectory, tracked: Tracked | None
) -> list[str]:
    """The program and arguments of a command trial."""
    assert experiment.trial.command is not None
    command = located(experiment.trial.command, experiment.base, experiment.trial.env)
    return substitute_all(command, _values(experiment, suggestion, directory, tracked))


def _values(
    experiment: Experiment, suggestion: Suggestion, directory: TrialDirectory, tracked: Tracked | None
) -> dict[str, Value]:
    known = {"run_id": tracked.run_id, "uri": tracked.uri} if tracked else {}
    return substitutions(experiment, suggestion, directory, **known)


@dataclass(frozen=True)
class _Given:
    """The context in which the programs of a trial are started."""

    experiment: Experiment
    suggestion: Suggestion
    directory: TrialDirectory
    tracked: Tracked | None
    reports: KatibReports | None

    @property
    def values(self) -> dict[str, Value]:
        return _values(self.experiment, self.suggestion, self.directory, self.tracked)

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        where = self.reports.variables() if self.reports else {}
        return self.directory.environment({**where, **own}, self.tracked)


def _start(given: _Given, function: Function | None) -> _Process:
    template = given.experiment.trial
    own = substitute_env(template.env, given.values)
    if template.function is not None:
        function = function or load_function(template.function)
        error_file = str(given.directory.path / "error.json")
        Path(error_file).unlink(missing_ok=True)
        objective = given.experiment.objective[0].metric
        arguments = called_with(given.experiment, given.suggestion)
        begin = partial(_begun, given.directory, os.getpid())
        with _kept_from_trials(given.reports.descriptors if given.reports else ()):
            return _Process(*fork_function(function, arguments, objective, given.environment(own), error_file, begin))
    if template.command is None:
        raise KatibFlowError(f"trial.{template.kind}: found a trial that runs only on Argo, need function or command")
    return _run(given, template.command, own)


def _run(given: _Given, command: Sequence[str], own: Mapping[str, str]) -> _Process:
    """Start a program.

    Args:
        own: additional environment variables.
    """
    argv = substitute_all(located(command, given.experiment.base, given.experiment.trial.env), given.values)
    child = subprocess.Popen(  # with an argument list: no shell interprets the values of parameters
        argv, env=given.environment(own), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=partial(_begun, given.directory, os.getpid()),
    )  # fmt: skip
    assert child.stdout is not None
    output = os.dup(child.stdout.fileno())
    child.stdout.close()
    child.returncode = 0  # we wait for it ourselves, not Popen
    return _Process(child.pid, output)


@contextlib.contextmanager
def _kept_from_trials(descriptors: Sequence[int]) -> Generator[None]:
    """Have trials that are forked in the block close some file descriptors."""
    not_for_trials.update(descriptors)
    try:
        yield
    finally:
        not_for_trials.difference_update(descriptors)


def _supervise(process: _Process, reader: Reader, stop: Stop, timeout: float | None) -> None:
    """Read until the process has ended, and then the rest; end it on request or when its time is over."""
    os.set_blocking(process.output, False)
    begun = time.monotonic()
    open_ = True
    with selectors.DefaultSelector() as selector:
        selector.register(process.output, selectors.EVENT_READ)
        while process.poll() is None:
            if not open_:  # the program has closed its output, usually because it is about to end
                process.wait(POLL_SECONDS)
            elif selector.select(POLL_SECONDS):
                open_ = _read_some(process.output, reader)
            reader.read_on()
            if reader.failure:
                process.end(time.monotonic())
            _end_if_due(process, stop, timeout, begun)
        process.send(signal.SIGKILL)  # to the rest of its group, which may hold the pipe open
        until = time.monotonic() + DRAIN_SECONDS
        while open_ and selector.select(0) and time.monotonic() < until:
            open_ = _read_some(process.output, reader)
    reader.printed(b"", end=True)
    reader.read_on(end=True)


def _read_some(output: int, reader: Reader) -> bool:
    """Read the available output; False at its end."""
    data = os.read(output, 1 << 18)
    if data:
        reader.printed(data)
    return bool(data)


def _end_if_due(process: _Process, stop: Stop, timeout: float | None, begun: float) -> None:
    now = time.monotonic()
    if process.request is None and not process.timed_out:
        process.request = stop()
        process.timed_out = process.request is None and timeout is not None and now - begun > timeout
    if process.request is not None or process.timed_out:
        process.end(now)
