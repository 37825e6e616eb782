"""Records an experiment that a program drives itself in MLflow, in the same way as the scheduler does."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

from katib_flow.history import History, Learnt, Trial
from katib_flow.local.conclusion import conclude
from katib_flow.local.spool import Spool
from katib_flow.spec.experiment import Experiment
from katib_flow.tracking import Change, Control, Record, Recorder, Status, Store
from katib_flow.tracking.lease import LeaseLost

CONTROL_SECONDS = 2.0
SUMMARY_SECONDS = 10.0


class Kept:
    """An experiment in a store, held by this process until ``close``.

    Args:
        say: called with messages for the user.

    Raises:
        KatibFlowError: another process is running the experiment, or the store cannot be used.
    """

    def __init__(self, store: Store, record: Record, say: Callable[[str], None]) -> None:
        self.store, self.record = store, record
        with ExitStack() as stack:
            self._lease = stack.enter_context(store.lease(record, say).take())
            self._recorder = stack.enter_context(Recorder(store, record, confirm=self._lease.confirm))
            self.control = store.control(record)
            self._looked = self._summarised = time.monotonic()
            self._open = stack.pop_all()

    @classmethod
    def begun(cls, store: Store, experiment: Experiment, say: Callable[[str], None]) -> Self:
        """Create a new experiment."""
        return cls(store, store.create(experiment, key=Spool.new_key()), say)

    @classmethod
    def resumed(
        cls,
        store: Store,
        name: str,
        say: Callable[[str], None],
        *,
        max_trials: int | None = None,
        timeout: float | None = None,
    ) -> Self:
        """Take over an existing experiment.

        Args:
            max_trials, timeout: new totals, in trials and seconds, that replace its limits.

        Raises:
            NotFound: the store has no experiment of this name.
        """
        kept = cls(store, store.find(name), say)
        try:
            kept.control = store.go_on(kept.record, max_trials=max_trials, timeout=timeout)
            kept._lease.confirm()  # two processes may have taken it at the same time
        except BaseException:
            kept.close()
            raise
        return kept

    def look(self, history: History) -> Control:
        """Read the user's requests every ``CONTROL_SECONDS``, and update the record every ``SUMMARY_SECONDS``.

        Raises:
            LeaseLost: another process has taken the experiment over.
        """
        if self._lease.lost:
            raise LeaseLost(self._lease.lost)
        now = time.monotonic()
        if now - self._looked > CONTROL_SECONDS:
            self._looked, self.control = now, self.store.control(self.record)
            if now - self._summarised > SUMMARY_SECONDS:
                self._summarised = now
                self.store.summarise(self.record, history)
        return self.control

    def seconds(self) -> float:
        """How long the experiment has run in all, in seconds."""
        return self.control.running_seconds(self.record, time.time())

    def queue(self, change: Change) -> None:
        """Queue a change for recording."""
        self._recorder.queue(change)

    def flush(self) -> None:
        """Wait until all queued changes are recorded."""
        self._recorder.flush()

    def run_id(self, trial: Trial) -> str:
        """The id of a trial's MLflow run; "" if it is not known yet."""
        return trial.run_id or self._recorder.run_id(trial.id)

    def learnings(self) -> Iterator[Learnt]:
        """The algorithm's recorded states, the newest first, read lazily."""
        return self.store.learnings.find(self.record)

    def keep_learnt(self, learnt: Learnt) -> None:
        """Record a state of the algorithm."""
        self.store.learnings.keep(self.record, learnt)

    def stands(self, history: History, status: Status, reason: str = "") -> History:
        """Record the status of the experiment, and return its trials with the ids of their runs."""
        self.flush()
        return conclude(self.store, self.record, history, self._recorder.run_id, status, reason)

    def close(self) -> None:
        """Record the queued changes, and release the experiment."""
        self._open.close()
