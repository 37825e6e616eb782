"""One worker of the local scheduler: a process that runs one trial at a time, each in a process of its own.

It stays lean, so that forking a function trial is cheap, and it ends with the scheduler, taking along its trial and all
that the trial started. It is given one end of a socket pair; everything on it comes from and goes to our own scheduler,
so pickle is safe there.
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
from katib_flow.processes import die_with
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.functions import Function, not_for_trials, trial_function
from katib_flow.trial.outcome import Outcome, StopTrial
from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.runner import run_trial
from katib_flow.trial.tracked import Tracked, without_run

IN_WORKER = "KATIB_FLOW_WORKER"
FULL_SECONDS = 2.0  # before a trial for which the disk had no room is tried again


@dataclass(frozen=True)
class Start:
    """The first message: what every trial of this worker is run with.

    Attributes:
        tracking_uri: of the experiment's store, for a module that uses MLflow when it is imported.
    """

    experiment: Experiment
    pickled_function: bytes | None
    tracking_uri: str = ""


@dataclass(frozen=True)
class Run:
    """One trial.

    Attributes:
        tracked: where it is recorded.
        earlier: what earlier tries reported, of a trial that goes on from its checkpoint.
    """

    suggestion: Suggestion
    directory: TrialDirectory
    tracked: Tracked
    earlier: Sequence[Metric] = ()


@dataclass(frozen=True)
class Ready:
    """The worker's first answer.

    Attributes:
        problem: why no trial of this experiment can run.
    """

    problem: SpecError | None = None


@dataclass(frozen=True)
class Reported:
    metrics: Sequence[Metric]


@dataclass(frozen=True)
class Done:
    outcome: Outcome


def save_result(directory: TrialDirectory, outcome: Outcome) -> None:
    """Write a trial's outcome so that it is there wholly or not at all: it outlives the scheduler."""
    content = {
        "state": outcome.state,
        "message": outcome.message,
        "metrics": [[each.name, each.value, each.step, each.timestamp_ms] for each in outcome.metrics],
        "started": outcome.started,
        "ended": outcome.ended,
        "fault": outcome.fault,
        "observations": dict(outcome.observations),
    }
    part = directory.result.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(directory.result)


def read_result(directory: TrialDirectory) -> Outcome | None:
    """What ``save_result`` wrote; None where the trial did not get that far, or has written something else there."""
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
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C and a closed terminal are the scheduler's to handle
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not a hard end: run_trial must end what the trial started
    die_with(int(sys.argv[3]), signal.SIGTERM)
    os.environ[IN_WORKER] = "1"
    connection = Connection(int(sys.argv[1]))
    for descriptor in map(int, (sys.argv[1], *sys.argv[4:])):  # the connection, and what is held while this lives
        os.set_inheritable(descriptor, False)
        not_for_trials.add(descriptor)
    try:
        start: Start = connection.recv()
        look_for_modules_in(start.experiment.base)
        _use_store(start.tracking_uri)
        try:
            function = _function(start)
        except SpecError as problem:
            connection.send(Ready(problem))
            return
        gc.collect()
        gc.freeze()  # what is here by now: a trial that collects garbage would copy every page that it is forked with
        connection.send(Ready())
        while True:
            message = connection.recv()
            if isinstance(message, Run):
                _run(connection, start.experiment, message, function)
    except (EOFError, ConnectionError):
        pass  # the scheduler is gone, or has no more work


def look_for_modules_in(base: Path | None) -> None:
    """Modules are looked for beside the spec's file, then in the working directory, as ``python -m`` does.

    Where an experiment was made in Python, they are where that program found them, else there.
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
        with contextlib.suppress(ImportError):  # once for all trials: they take seconds, a fork of them none
            importlib.import_module("katib_flow.models.build")  # torch
            importlib.import_module("torch._dynamo")  # which torch imports when the first optimiser is made
    return trial_function(start.experiment, _sent(start))


def _sent(start: Start) -> Function | None:
    """The function that was sent along; None where it is to be imported."""
    if start.pickled_function is None:
        return None
    try:
        return cloudpickle.loads(start.pickled_function)
    except Exception as error:
        need = f"a function that can be made again in another process ({type(error).__name__}: {error})"
        raise SpecError("trial.function", start.experiment.trial.function, need) from error


def _run(connection: Connection, experiment: Experiment, run: Run, function: Function | None) -> None:
    requested: StopTrial | None = None

    def stop() -> StopTrial | None:
        nonlocal requested
        while connection.poll():  # EOFError, when the scheduler is gone, ends the trial on its way up
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
    except OSError as error:  # the disk is full, say: the trial is lost, the worker is not
        if isinstance(error, ConnectionError):
            raise
        outcome = Outcome(
            State.FAILED, f"could not be run: {error}", started=time.time(), ended=time.time(), fault=True
        )
        _pause(connection, stop)
    with contextlib.suppress(OSError):  # then the scheduler alone has it, and MLflow soon
        save_result(run.directory, outcome)
    connection.send(Done(outcome))


def _pause(connection: Connection, stop: Callable[[], StopTrial | None]) -> None:
    """Wait a little before the trial is tried again: else all tries of all trials are over before there is room."""
    until = time.monotonic() + FULL_SECONDS
    while stop() is None and (left := until - time.monotonic()) > 0:
        connection.poll(left)
