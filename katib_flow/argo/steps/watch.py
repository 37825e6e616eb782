"""Who tells a running trial to end: the pod's SIGTERM, a user's stop, the experiment's time-out."""

import contextlib
import signal
import threading
from types import FrameType

from katib_flow.argo.steps.context import Context, elapsed_seconds
from katib_flow.errors import KatibFlowError
from katib_flow.history import State
from katib_flow.trial.outcome import StopTrial

CONTROL_SECONDS = 15.0  # between looks at MLflow, which every running trial takes


class Watch:
    """Asked by the runner whether the trial should end; it never waits for MLflow.

    Attributes:
        terminated: this pod was told to go away.
    """

    def __init__(self, context: Context, *, seconds: float = CONTROL_SECONDS) -> None:
        self.terminated = False
        self._context, self._seconds = context, seconds
        self._stopped = False
        self._over = threading.Event()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._look, name="katib-flow watch", daemon=True).start()

    def __call__(self) -> StopTrial | None:
        return StopTrial(State.KILLED) if self.terminated or self._stopped else None

    def end(self) -> None:
        self._over.set()

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True

    def _look(self) -> None:
        limit = self._context.experiment.limits.timeout
        while not self._over.wait(self._seconds):
            with contextlib.suppress(KatibFlowError):  # MLflow is away: the trial goes on
                control = self._context.store.control(self._context.record)
                late = limit is not None and elapsed_seconds(self._context.record, control) >= limit
                self._stopped = control.stop or late
