"""An asynchronous writer: the scheduler never waits for MLflow, and what comes close together is written together."""

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from katib_flow.history import Trial
from katib_flow.tracking.records import Change, Record
from katib_flow.tracking.store import Store

GROUP = 200


class Recorder:
    """Changes in, MLflow out, in order for each trial.

    Changes of one trial that still wait are merged, so a trial that ends at once costs one write, while a slow one is
    recorded when it starts.

    Args:
        on_written: called, from the writing thread, with each trial whose final state is durable.
    """

    def __init__(self, store: Store, record: Record, *, on_written: Callable[[Trial], None] | None = None) -> None:
        self._store, self._record, self._on_written = store, record, on_written
        self._waiting: dict[str, Change] = {}
        self._run_ids: dict[str, str] = {}
        self._writing = self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="katib-flow recorder", daemon=True)
        self._thread.start()

    def put(self, change: Change) -> None:
        """Hand over a change.

        Raises:
            TrackingError: an earlier one could not be written.
        """
        with self._changed:
            self._raise()
            if change.trial.run_id:
                self._run_ids[change.trial.id] = change.trial.run_id
            earlier = self._waiting.get(change.trial.id)
            if earlier:
                artifacts = {**earlier.artifacts, **change.artifacts}
                change = Change(change.trial, earlier.metrics + change.metrics, change.log or earlier.log, artifacts)
            self._waiting[change.trial.id] = change
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything handed over is written.

        Raises:
            TrackingError: something could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or not (self._waiting or self._writing))
            self._raise()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            try:
                changes = [replace(change, trial=self._known(change.trial)) for change in group]
                trials = self._store.write(self._record, changes)
            except Exception as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            self._run_ids.update({trial.id: trial.run_id for trial in trials})
            if self._on_written:
                for trial in trials:
                    if trial.state.final:
                        self._on_written(trial)

    def _known(self, trial: Trial) -> Trial:
        return replace(trial, run_id=self._run_ids.get(trial.id, trial.run_id))

    def _next_group(self) -> list[Change]:
        """Wait for changes; an empty list at the end."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            group = [self._waiting.pop(trial_id) for trial_id in list(self._waiting)[:GROUP]]
            self._writing = bool(group)
            return group
