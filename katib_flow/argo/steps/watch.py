"""Decide when a running trial must end: on SIGTERM, a user's stop, the experiment's timeout or a stopping rule."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType

from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Metric, State, Trial
from katib_flow.stopping import judged_metrics, reason_to_stop
from katib_flow.tracking.lease import Held
from katib_flow.trial.outcome import StopTrial

CONTROL_SECONDS = 15.0  # between the requests of each running trial to MLflow


class Watch:
    """Tells the runner whether the trial should end. Calling it never waits for MLflow, which a thread asks.

    Attributes:
        terminated: whether the pod received SIGTERM, or another process has taken over the experiment.
    """

    def __init__(self, context: Context, trial: Trial, *, seconds: float = CONTROL_SECONDS) -> None:
        self.terminated = False
        self._context, self._trial, self._seconds = context, trial, seconds
        self._request: StopTrial | None = None
        self._heard: list[Metric] = []
        self._judged_metrics = judged_metrics(context.experiment, trial.suggestion)
        self._judged = 0
        self._curves: dict[str, tuple[Metric, ...]] = {}  # of ended trials, whose curves do not change
        self._over = threading.Event()
        self._begin()

    def _begin(self) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._watch, name="katib-flow watch", daemon=True).start()

    def __call__(self) -> StopTrial | None:
        return StopTrial(State.KILLED) if self.terminated else self._request

    def hear(self, metrics: Sequence[Metric]) -> None:
        """Take metrics that the trial has reported, for the stopping rule."""
        self._heard += [metric for metric in metrics if metric.name in self._judged_metrics]

    def end(self) -> None:
        """Stop watching."""
        self._over.set()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True

    def _watch(self) -> None:
        while self._request is None and not self._over.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """Ask MLflow whether the trial should end."""
        record = self._context.record
        with contextlib.suppress(KatibFlowError):  # if MLflow does not answer, the trial continues
            if not self._held():
                self.terminated = True  # so that nothing is recorded: another process runs the trial now
                return
            control = self._context.store.control(record)
            limit = control.longest_seconds(self._context.experiment)
            late = limit is not None and control.running_seconds(record, time.time()) >= limit
            if control.stop or late:
                self._request = StopTrial(State.KILLED)
            elif why := self.reason_to_stop():
                self._request = StopTrial(State.EARLY_STOPPED, why)

    def _held(self) -> bool:
        """Renew the Workflow's lease on the experiment; return False if another process has taken it over."""
        try:
            self._context.hold()
        except Held as error:
            print(error, file=sys.stderr)
            return False
        return True

    def reason_to_stop(self) -> str:
        """Return why the experiment's stopping rule ends the trial now; "" if it does not, or without new metrics."""
        heard = tuple(self._heard)
        if self._context.experiment.early_stopping is None or len(heard) == self._judged:
            return ""
        self._judged = len(heard)
        names = [metric.name for metric in heard]
        series = {name: tuple(metric for metric in heard if metric.name == name) for name in names}
        history = self._history(self._context.experiment.objective[0].metric)
        return reason_to_stop(self._context.experiment, history, replace(self._trial, series=series))

    def _history(self, name: str) -> History:
        """Return the other trials with their curves of a metric; the curves of ended trials are read only once."""
        trials = [trial for trial in self._context.store.history(self._context.record) if trial.id != self._trial.id]
        asked = [trial for trial in trials if trial.run_id and trial.id not in self._curves]
        curves = self._context.store.curves(asked, [name])
        ended = {trial.id for trial in trials if trial.state.over}
        self._curves |= {id_: tuple(curve) for id_, curve in curves.items() if id_ in ended}
        series = {id_: tuple(curve) for id_, curve in curves.items()} | self._curves
        return History(tuple(replace(trial, series={name: series.get(trial.id, ())}) for trial in trials))
