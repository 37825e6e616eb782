"""An experiment that runs in the background of the program that started it, such as a notebook."""

# MLflow imports this module, which fails once the main thread has ended
import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]
import sys
import threading
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Trial
from katib_flow.local.observer import Progress, Silent
from katib_flow.local.result import Result
from katib_flow.local.run import run_experiment
from katib_flow.local.scheduler import Scheduler
from katib_flow.loop import NOTHING
from katib_flow.markup import facts, table
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Status
from katib_flow.trial.table import printable, rows, telling

SHOWN = 10
WATCH_SECONDS = 0.5


class Running:
    """An experiment in a thread of this process, as ``kf.start`` returns it; it ends in order when the program ends."""

    def __init__(self, experiment: Experiment, progress: Progress | None, **options: Any) -> None:
        self.experiment = experiment
        self._watcher = _Watcher(progress or _Complaining())
        self._scheduler: Scheduler | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._stopping = self._leaving = False
        self._lock = threading.Lock()
        name = f"katib-flow {experiment.name}"
        self._thread = threading.Thread(target=self._run, args=(options,), name=name, daemon=False)
        self._thread.start()
        threading.Thread(target=self._end_with_the_program, name=f"{name} watch", daemon=True).start()

    def _run(self, options: dict[str, Any]) -> None:
        try:
            self._result = run_experiment(self.experiment, progress=self._watcher, begun=self._begun, **options)
        except BaseException as error:  # noqa: BLE001 - wait raises it
            self._error = error
            if self._scheduler is not None or not self._leaving:  # else the program ended before the experiment began
                self._watcher.say(f"{self.experiment.name}: ended with an error, which wait() raises: {error}")

    def _begun(self, scheduler: Scheduler) -> None:
        with self._lock:
            self._scheduler = scheduler
            scheduler.stop_asked = self._stopping
            if self._leaving:
                scheduler.interrupt()

    def _end_with_the_program(self) -> None:
        """Interrupt the experiment when the main thread has ended: the interpreter then waits for it."""
        program = threading.main_thread()
        while program.is_alive():
            if not self._thread.is_alive():
                return
            program.join(WATCH_SECONDS)
        with self._lock:
            self._leaving = True
            if self._scheduler is not None:
                self._scheduler.interrupt()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials so far."""
        return self.history.trials

    @property
    def history(self) -> History:
        """The trials so far, as the scheduler last showed them."""
        return self._result.history if self._result is not None else self._watcher.history

    @property
    def best(self) -> Trial | None:
        """The best trial so far by the first objective; None if no trial has a finite value yet."""
        return self.experiment.best(self.history)

    @property
    def status(self) -> Status:
        """Running, or how the experiment ended; failed if ``wait`` raises an error."""
        if self._thread.is_alive():
            return Status.RUNNING
        return Status.FAILED if self._result is None else self._result.status

    def stop(self) -> None:
        """Request the end of the experiment, as ``katib-flow stop`` does; its running trials are killed."""
        with self._lock:
            self._stopping = True
            if self._scheduler is not None:
                self._scheduler.stop_asked = True

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until the experiment has ended; Ctrl-C ends only the wait.

        Args:
            timeout: the longest wait, in seconds; by default there is no limit.

        Raises:
            TimeoutError: the experiment is still running.
            KatibFlowError: the error that ended the experiment.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.experiment.name}: still running after {timeout:g} s; it continues")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _repr_html_(self) -> str:
        if isinstance(self._error, KatibFlowError):
            return facts(str(self), {"error": self._error})
        ranked = rows(self.experiment, self.experiment.ranked(self.history)[:SHOWN])
        return table(str(self), [{name: row[name] for name in telling(ranked)} for row in ranked])

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.history.counts().items()))
        reason = f", {self._result.reason}" if self._result is not None else ""
        return f"{self.experiment.name}: {self.status}{reason}; {counts or 'no trials yet'}"

    def __repr__(self) -> str:
        return f"<Running {self}>"


class _Watcher:
    """Keeps the history that the scheduler last showed: the scheduler's own must not be read from another thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self.history = progress, NOTHING

    def show(self, history: History, most_trials: int | None) -> None:
        self.history = history
        self._progress.show(history, most_trials)

    def trial_ended(self, trial: Trial) -> None:
        self._progress.trial_ended(trial)

    def say(self, text: str) -> None:
        self._progress.say(text)


class _Complaining(Silent):
    """Shows no progress, and prints messages to stderr."""

    def say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)
