"""train: one trial from its pending suggestion to its recorded end, in an image that has katib-flow."""

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
    """Run a trial; one that has ended already is left as it is.

    Returns:
        The exit code: 0, or that of a user's failure, or of a pod that was told to go away and is tried elsewhere.
    """
    trial = find_trial(context, trial_id)
    if trial.state.final:
        return exit_code(trial.state)
    here = checkpoints.place(context, trial, directory)
    trial = begin(context, trial)
    watch, follow, earlier = Watch(context, trial), Follow(here.log), checkpoints.earlier(context, trial, here)
    watch.hear(earlier)
    os.environ.update(pushed.pushed_to(context, trial))

    def stop() -> StopTrial | None:
        follow.copy()
        return watch()

    with Recorder(context.store, context.record) as recorder, Keeper(context, trial, here, recorder) as keeper:
        try:
            install(context.experiment.trial.packages)
            function = trial_function(context.experiment)
            on_metrics = taken(trial, watch, recorder)
            hooks: Any = {"on_metrics": on_metrics, "stop": stop, "source": pushed.source(context, trial)}
            hooks |= {"function": function, "earlier": earlier, "katib_port": katib.PORT}
            outcome = run_trial(context.experiment, trial.suggestion, here, **hooks)
        except SpecError as problem:  # the image lacks what the spec names: no machine's fault
            outcome = Outcome(State.FAILED, str(problem), ended=time.time())
        watch.end()
        follow.copy()
        keeper.end(whole=outcome.whole)  # before the trial is final: its children look for it
        files = model_files(here.model)
        if watch.terminated and outcome.state is State.KILLED:
            recorder.put(Change(trial, artifacts=files))
            return TERMINATED  # it stays open: another pod takes it over, or finish closes it
        recorder.put(Change(outcome.applied_to(trial), (), here.log, files))
    if outcome.message:
        print(f"{trial_id}: {outcome.state}: {outcome.message}", file=sys.stderr)
    return exit_code(outcome.state)


def find_trial(context: Context, trial_id: str) -> Trial:
    trial = context.store.trial(context.record, trial_id)
    if trial is None:
        raise NotFound(f"{trial_id}: no such trial in run {context.record.key} ({context.record.run_id})")
    return trial


def begin(context: Context, trial: Trial) -> Trial:
    """The trial, recorded as running; a pod that finds it running already is another try."""
    retries = trial.retries + (trial.state is State.RUNNING)
    trial = replace(trial, state=State.RUNNING, started=time.time(), ended=None, message="", retries=retries)
    return context.store.write(context.record, [Change(replace(trial, observations={}))])[0]


def exit_code(state: State) -> int:
    """0 for a recorded result and for what we ended ourselves; Argo tries neither again."""
    return USER_FAILURE if state.failure else 0


def taken(trial: Trial, watch: Watch, recorder: Recorder) -> OnMetrics:
    """What to call with a trial's metrics as they come: they are judged, and recorded."""

    def take(metrics: Sequence[Metric]) -> None:
        watch.hear(metrics)
        recorder.put(Change(trial, tuple(metrics)))

    return take


class Follow:
    """Copies a log as it grows to this program's own output, so that the pod's log shows it."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)

    def copy(self) -> None:
        for data in self._tail.portions():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
