"""One worker of the local scheduler: a process that runs one trial at a time, each in a process of its own.

It stays small, so that forking a function trial is cheap. It ends when the scheduler ends, together with its trial and
all processes that the trial has started. It talks to the scheduler over one end of a socket pair, which nobody else can
reach, so pickle is safe there.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from katib_flow.errors import SpecError
from katib_flow.foreign import END_OF_TIME, metric_of, number_of
from katib_flow.history import Metric, State, Suggestion
from katib_flow.local.preload import preload
from katib_flow.processes import die_with
from katib_flow.spec.experiment import Experiment
from katib_flow.trial import chance
from katib_flow.trial.functions import Function, not_for_trials, trial_function
from katib_flow.trial.outcome import Outcome, StopTrial
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.runner import run_trial
from katib_flow.trial.tracked import Tracked, without_run

IN_WORKER = "KATIB_FLOW_WORKER"
FULL_SECONDS = 2.0  # the wait before a trial is tried again that failed because the disk was full


@dataclass(frozen=True)
class Start:
    """The first message to a worker, with what all of its trials share.

    Attributes:
        pickled_function: the trial function; None if it is imported by its name.
        tracking_uri: URI of the experiment's store, for modules that use MLflow when they are imported.
    """

    experiment: Experiment
    pickled_function: bytes | None
    tracking_uri: str = ""


@dataclass(frozen=True)
class Run:
    """The message that starts a trial.

    Attributes:
        tracked: where the trial is recorded.
        earlier: the metrics of earlier attempts, if the trial continues from its checkpoint.
    """

    suggestion: Suggestion
    directory: TrialDirectory
    tracked: Tracked
    earlier: Sequence[Metric] = ()


@dataclass(frozen=True)
class Ready:
    """The first message from a worker.

    Attributes:
        problem: why no trial of this experiment can run; None if they can.
    """

    problem: SpecError | None = None


@dataclass(frozen=True)
class Reported:
    """The message with new metrics of the running trial."""

    metrics: Sequence[Metric]


@dataclass(frozen=True)
class Done:
    """The message with the outcome of the trial."""

    outcome: Outcome


def save_result(directory: TrialDirectory, outcome: Outcome) -> None:
    """Write a trial's outcome to disk, atomically, so that it outlives the scheduler."""
    content = {
        "state": outcome.state,
        "message": outcome.message,
        "metrics": [[metric.name, metric.value, metric.step, metric.timestamp_ms] for metric in outcome.metrics],
        "started": outcome.started,
        "ended": outcome.ended,
        "fault": outcome.fault,
        "observations": dict(outcome.observations),
    }
    part = directory.result.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(directory.result)


def read_result(directory: TrialDirectory) -> Outcome | None:
    """Read the outcome that ``save_result`` wrote; None if the file is missing or damaged."""
    try:
        content: dict[str, Any] = json.loads(directory.result.read_text(encoding="utf-8"))
        started, ended = number_of(content["started"]), number_of(content["ended"])
        if not (0 <= started < END_OF_TIME and 0 <= ended < END_OF_TIME):
            return None
        return Outcome(
            State(content["state"]),
            message=str(content["message"]),
            metrics=tuple(_metric(*fields) for fields in content["metrics"]),
            started=started,
            ended=ended,
            fault=content["fault"] is True,
            observations={name: number_of(value) for name, value in content["observations"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _metric(name: object, value: object, step: object, timestamp_ms: object) -> Metric:
    """A metric as ``save_result`` writes it."""
    numbers = tuple(map(number_of, value)) if isinstance(value, list) else number_of(value)
    return metric_of(name, numbers, step, timestamp_ms)


def main() -> None:
    """Run trials until the scheduler hangs up.

    Its arguments in ``sys.argv``: the descriptor of the connection, ``sys.path`` as JSON (read before this module is
    imported), the process id of the scheduler, and the descriptors to hold open.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # the scheduler handles Ctrl-C and a closed terminal
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order: run_trial must end what the trial started
    die_with(int(sys.argv[3]), signal.SIGTERM)
    os.environ[IN_WORKER] = "1"
    connection = Connection(int(sys.argv[1]))
    for descriptor in map(int, (sys.argv[1], *sys.argv[4:])):  # the connection, and the files to hold open
        os.set_inheritable(descriptor, False)
        not_for_trials.add(descriptor)
    try:
        start: Start = connection.recv()
        look_for_modules_in(start.experiment.base)
        _use_store(start.tracking_uri)
        gc.disable()  # collections during the imports of large libraries free nothing and take a fifth of their time
        try:
            function = _function(start)
        except SpecError as problem:
            connection.send(Ready(problem))
            return
        gc.collect()
        gc.freeze()  # or a collection in a forked trial would copy every page of the objects that exist now
        gc.enable()
        connection.send(Ready())
        while True:
            message = connection.recv()
            if isinstance(message, Run):
                _run(connection, start.experiment, message, function)
    except (EOFError, ConnectionError):
        pass  # the scheduler has ended, or has no more work


def look_for_modules_in(base: Path | None) -> None:
    """Put the directory of the spec's file first in ``sys.path``, then the working directory, as ``python -m`` does.

    An experiment made in Python has no ``base``: the path of that program comes first, then the working directory.
    """
    here = str(Path.cwd())
    if base is not None:
        sys.path[:0] = dict.fromkeys([str(base), here])
    elif here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _use_store(uri: str) -> None:
    inside = without_run(os.environ)
    for name in os.environ.keys() - inside.keys():
        del os.environ[name]
    if uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri


def _function(start: Start) -> Function | None:
    if start.experiment.architecture is not None and start.experiment.trial.function:
        with contextlib.suppress(ImportError):  # once for all trials: the imports take seconds, a fork does not
            importlib.import_module("katib_flow.models.build")  # imports torch
    function = trial_function(start.experiment, _sent(start))
    if function is not None:
        preload(start.experiment, function)
    return function


def _sent(start: Start) -> Function | None:
    """The function that was sent with the first message; None if it is imported by its name."""
    if start.pickled_function is None:
        return None
    try:
        with chance.noticing_seeds():
            return cloudpickle.loads(start.pickled_function)
    except Exception as error:
        need = f"a function that can be unpickled in another process ({type(error).__name__}: {error})"
        raise SpecError("trial.function", start.experiment.trial.function, need) from error


def _run(connection: Connection, experiment: Experiment, run: Run, function: Function | None) -> None:
    requested: StopTrial | None = None

    def stop() -> StopTrial | None:
        nonlocal requested
        while connection.poll():  # raises EOFError if the scheduler has ended, which ends the trial
            message = connection.recv()
            if isinstance(message, StopTrial):
                requested = message
        return requested

    def on_metrics(metrics: Sequence[Metric]) -> None:
        connection.send(Reported(metrics))

    try:
        hooks: Any = {"on_metrics": on_metrics, "stop": stop, "function": function, "earlier": run.earlier}
        hooks["tracked"] = run.tracked
        outcome = run_trial(experiment, run.suggestion, run.directory, **hooks)
    except OSError as error:  # a full disk, for example: the trial is lost, but not the worker
        if isinstance(error, ConnectionError):
            raise
        outcome = Outcome(
            State.FAILED, f"could not be run: {error}", started=time.time(), ended=time.time(), fault=True
        )
        _pause(connection, stop)
    with contextlib.suppress(OSError):  # the scheduler gets the outcome anyway
        save_result(run.directory, outcome)
    connection.send(Done(outcome))


def _pause(connection: Connection, stop: Callable[[], StopTrial | None]) -> None:
    """Wait before the trial is tried again, or all attempts of all trials would fail before the disk has space."""

    until = time.monotonic() + FULL_SECONDS
    while stop() is None and (left := until - time.monotonic()) > 0:
        connection.poll(left)
