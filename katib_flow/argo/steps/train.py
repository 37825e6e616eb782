"""train: run one trial and record its end, in an image that contains katib-flow."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from katib_flow.argo.names import TERMINATED
from katib_flow.argo.steps import checkpoints, pushed
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.keeper import Keeper
from katib_flow.argo.steps.packages import install
from katib_flow.argo.steps.watch import Watch
from katib_flow.errors import NotFound, SpecError
from katib_flow.history import Metric, State, Trial
from katib_flow.metrics import katib
from katib_flow.metrics.lines import Tail
from katib_flow.tracking import Change, Recorder
from katib_flow.trial.functions import trial_function
from katib_flow.trial.outcome import Outcome, StopTrial
from katib_flow.trial.protocol import USER_FAILURE, model_files
from katib_flow.trial.reader import OnMetrics
from katib_flow.trial.runner import run_trial


def run(context: Context, trial_id: str, directory: Path) -> int:
    """Run a trial, unless it has already ended.

    Args:
        context: the experiment.
        trial_id: id of the trial.
        directory: directory for the trial's files.

    Returns:
        The exit code: 0 for a recorded result, ``USER_FAILURE`` if the trial failed, or ``TERMINATED`` if the pod
        received SIGTERM, in which case Argo retries it.
    """
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return exit_code(trial.state)
    files = checkpoints.prepared(context, trial, directory)
    trial = begin(context, trial)
    watch, follow, earlier = Watch(context, trial), Follow(files.log), checkpoints.earlier(context, trial, files)
    watch.hear(earlier)
    os.environ.update(pushed.pushed_to(context, trial))

    def stop() -> StopTrial | None:
        follow.copy()
        return watch()

    with Recorder(context.store, context.record) as recorder, Keeper(context, trial, files, recorder) as keeper:
        try:
            install(context.experiment.trial.packages)
            function = trial_function(context.experiment)
            on_metrics = metrics_handler(trial, watch, recorder)
            hooks: Any = {"on_metrics": on_metrics, "stop": stop, "source": pushed.source(context, trial)}
            hooks |= {"function": function, "earlier": earlier, "katib_port": katib.PORT}
            outcome = run_trial(context.experiment, trial.suggestion, files, **hooks)
        except SpecError as problem:  # the image lacks something that the spec names, so a retry would not help
            outcome = Outcome(State.FAILED, str(problem), ended=time.time())
        watch.end()
        follow.copy()
        keeper.end(whole=outcome.whole)  # before the trial is final, because its children then read the checkpoint
        model = model_files(files.model)
        if watch.terminated and outcome.state is State.KILLED:
            recorder.queue(Change(trial, artifacts=model))
            return TERMINATED  # the trial stays open: another pod takes over, or finish closes it
        recorder.queue(Change(outcome.applied_to(trial), (), files.log, model))
    if outcome.message:
        print(f"{trial_id}: {outcome.state}: {outcome.message}", file=sys.stderr)
    return exit_code(outcome.state)


def find_trial(context: Context, trial_id: str) -> Trial:
    """Return a recorded trial. Raises NotFound."""
    trial = context.store.trial(context.record, trial_id)
    if trial is None:
        raise NotFound(f"{trial_id}: no such trial in run {context.record.key} ({context.record.run_id})")
    return trial


def begin(context: Context, trial: Trial) -> Trial:
    """Record a trial as running and return it. If it is running already, this pod is a retry."""
    retries = trial.retries + (trial.state is State.RUNNING)
    trial = replace(trial, state=State.RUNNING, started=time.time(), ended=None, message="", retries=retries)
    return context.store.write(context.record, [Change(replace(trial, observations={}))])[0]


def exit_code(state: State) -> int:
    """Return the exit code for a trial's final state, which Argo does not retry."""
    return USER_FAILURE if state.failure else 0


def metrics_handler(trial: Trial, watch: Watch, recorder: Recorder) -> OnMetrics:
    """Return a callback for a trial's metrics that passes them to the stopping rule and records them."""

    def take(metrics: Sequence[Metric]) -> None:
        watch.hear(metrics)
        recorder.queue(Change(trial, tuple(metrics)))

    return take


class Follow:
    """Copies a growing log to this program's output, so that it appears in the pod's log."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)

    def copy(self) -> None:
        """Copy what has been added since the last call."""
        for data in self._tail.portions():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
