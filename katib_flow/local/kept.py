"""How an experiment that a program drives itself is kept in MLflow as it goes: by the same means as the scheduler's."""

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
    """An experiment in a store, in the hands of this process until ``close``.

    Args:
        say: called with what a person should know.

    Raises:
        KatibFlowError: somebody else runs it, or the store cannot be used.
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
        """A new experiment."""
        return cls(store, store.create(experiment, key=Spool.new_key()), say)

    @classmethod
    def gone_on_with(
        cls,
        store: Store,
        name: str,
        say: Callable[[str], None],
        *,
        max_trials: int | None = None,
        timeout: float | None = None,
    ) -> Self:
        """An experiment that there is already.

        Args:
            max_trials, timeout: in all, in the place of its limits.

        Raises:
            NotFound: there is none of this name.
        """
        kept = cls(store, store.find(name), say)
        try:
            kept.control = store.go_on(kept.record, max_trials=max_trials, timeout=timeout)
            kept._lease.confirm()  # of two that began at once
        except BaseException:
            kept.close()
            raise
        return kept

    def look(self, history: History) -> Control:
        """What a user asks for; the record is brought up to date now and then.

        Raises:
            LeaseLost: somebody else has taken the experiment over.
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
        """For how long the experiment has run."""
        return self.control.running_seconds(self.record, time.time())

    def put(self, change: Change) -> None:
        """Have a change recorded soon."""
        self._recorder.put(change)

    def flush(self) -> None:
        """Wait until all that was put is durable."""
        self._recorder.flush()

    def run_id(self, trial: Trial) -> str:
        return trial.run_id or self._recorder.run_id(trial.id)

    def learnings(self) -> Iterator[Learnt]:
        """What the algorithm has learnt before, read when it is asked for."""
        return self.store.learnings.find(self.record)

    def keep_learnt(self, learnt: Learnt) -> None:
        self.store.learnings.keep(self.record, learnt)

    def stands(self, history: History, status: Status, reason: str = "") -> History:
        """Record how the experiment stands; its trials, with their runs."""
        self.flush()
        return conclude(self.store, self.record, history, self._recorder.run_id, status, reason)

    def close(self) -> None:
        """Record what is left, and give the experiment out of hand."""
        self._open.close()
