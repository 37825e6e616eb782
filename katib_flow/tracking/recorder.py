"""An asynchronous writer for the local scheduler: a thread that groups and merges changes before it records them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Self

from katib_flow.errors import TrackingError, TrackingUnavailable
from katib_flow.history import Trial
from katib_flow.tracking.records import Change, Record
from katib_flow.tracking.store import Store

LINGER_SECONDS = 0.1
AGAIN_SECONDS = 1.0
"""The pause between two writes of the same group, each of which the store itself tries several times."""
TICK_SECONDS = 0.2
GROUP = 500


class Recorder:
    """Writes changes of trials in the background, in the order in which they were queued.

    The thread waits ``linger_seconds`` after a change for others to join it. Waiting changes of one trial are merged,
    so that a very short trial costs one write; a longer one shows as running after that moment.

    Attributes:
        patient: True to wait for a store that does not answer without limit; otherwise a write fails for good once the
            store's own attempts have failed.

    Args:
        on_written: called, in the thread, with each trial whose final state is recorded.
        confirm: called, in the thread, before writing to a store that did not answer; it raises an error if nothing
            may be written any more.

    Raises:
        TrackingError: from ``queue``, ``flush`` and ``close``, once a write has failed for good. Nothing is written
            after that.
    """

    def __init__(
        self,
        store: Store,
        record: Record,
        on_written: Callable[[Trial], None] | None = None,
        confirm: Callable[[], None] = lambda: None,
        *,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._store, self._record, self._on_written, self._linger = store, record, on_written, linger_seconds
        self._confirm, self.patient = confirm, False
        self._waiting: dict[str, list[Change]] = {}  # by trial id, in the order of the first change
        self._group: list[Change] = []  # the changes that are being written
        self._run_ids: dict[str, str] = {}
        self._error: BaseException | None = None
        self._writing = self._hurried = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="katib-flow-recorder", daemon=True)
        self._thread.start()

    def queue(self, change: Change) -> None:
        """Queue a change for recording, and return at once."""
        with self._changed:
            self._check()
            if self._closed:
                raise TrackingError("the recorder is closed; nothing more can be recorded")
            changes = self._waiting.setdefault(change.trial.id, [])
            changes.append(change)
            if len(changes) == 1 and len(self._waiting) in (1, GROUP):
                self._changed.notify_all()

    def run_id(self, trial_id: str) -> str:
        """The run id of a trial that was recorded here; "" if it was not."""
        return self._run_ids.get(trial_id, "")

    @property
    def results(self) -> int:
        """The number of trials that have ended and are not recorded yet."""
        with self._changed:
            waiting = [*self._group, *(changes[-1] for changes in self._waiting.values())]
            return len({change.trial.id for change in waiting if change.trial.state.over})

    def flush(self, tick: Callable[[], bool] = lambda: True) -> bool:
        """Wait until everything queued so far is recorded; False if ``tick`` ended the wait.

        Args:
            tick: called every ``TICK_SECONDS``; returns whether to go on waiting.
        """
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._error or not (self._waiting or self._writing), TICK_SECONDS):
                    self._check()
                    return True
            if not tick():
                return False

    def close(self) -> None:
        """Record the remaining changes, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is KeyboardInterrupt:
            return  # an interrupt must not wait; the thread ends with the process
        try:
            self.close()
        except TrackingError:
            if error is None:  # the error that ended the block takes precedence
                raise

    def _check(self) -> None:
        if isinstance(self._error, TrackingError):
            raise self._error
        if self._error is not None:
            raise TrackingError(f"recording failed: {self._error!r}") from self._error

    def _work(self) -> None:
        try:
            while group := self._next():
                self._write(group)
                with self._changed:
                    self._writing, self._group = False, []
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            with self._changed:
                self._error, self._writing = error, False
                self._changed.notify_all()

    def _next(self) -> list[Change]:
        """The next group to write; empty once the recorder is closed and all is written."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(lambda: self._hurried or self._closed or len(self._waiting) >= GROUP, self._linger)
            group = [merged(self._waiting.pop(trial_id)) for trial_id in list(self._waiting)[:GROUP]]
            self._writing, self._hurried = bool(group), self._hurried and bool(self._waiting)
            self._group = group
            return group

    def _write(self, group: list[Change]) -> None:
        known = [
            replace(change, trial=replace(change.trial, run_id=change.trial.run_id or self.run_id(change.trial.id)))
            for change in group
        ]
        for trial in self._written(known):
            self._run_ids[trial.id] = trial.run_id
            if trial.state.final and self._on_written is not None:
                self._on_written(trial)

    def _written(self, group: list[Change]) -> list[Trial]:
        """Write a group, and return its trials; if ``patient``, try until the store answers."""
        try:
            return self._store.write(self._record, group)
        except TrackingUnavailable as error:
            away = error
        while self.patient:
            with self._changed:
                self._changed.wait(AGAIN_SECONDS)
            try:
                self._confirm()
                return self._store.write(self._record, group, lookup=True)  # a part of it may have been written
            except TrackingUnavailable as error:
                away = error
        raise away


def merged(changes: Sequence[Change]) -> Change:
    """Merge the changes of one trial: its last state, and all of its metrics and artifacts."""
    trial = changes[-1].trial
    run_id = next((change.trial.run_id for change in reversed(changes) if change.trial.run_id), "")
    return Change(
        trial=trial if trial.run_id else replace(trial, run_id=run_id),
        metrics=tuple(chain.from_iterable(change.metrics for change in changes)),
        log=next((change.log for change in reversed(changes) if change.log), None),
        artifacts={name: path for change in changes for name, path in change.artifacts.items()},
    )
