"""Keeps a trial's checkpoints in MLflow while it runs, so that a pod that vanishes takes little with it.

A checkpoint is what the directory held when nothing in it had changed for a moment, as long as nobody writes on in its
files: a half-written one is not what the next pod finds.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from katib_flow.argo.steps.checkpoints import resumed
from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import Trial
from katib_flow.tracking import Recorder
from katib_flow.trial import archive
from katib_flow.trial.archive import Listing
from katib_flow.trial.protocol import TrialDirectory

STILL_SECONDS = 0.25  # without a change, after which nobody is taken to be writing
AGAIN_SECONDS = 30.0  # after an upload that failed


class Keeper:
    """Watches the checkpoints of one trial from a thread of its own, while a ``with`` block lasts.

    It does nothing where ``argo.checkpoints`` names a volume, on which they are already.
    """

    def __init__(self, context: Context, trial: Trial, here: TrialDirectory, recorder: Recorder) -> None:
        self._store, self._trial, self._directory = context.store, trial, here.checkpoint
        self._recorder = recorder
        settings = context.experiment.argo.checkpoints
        self._on, self._every = settings.claim is None, settings.every
        self._kept: Listing | None = None if resumed(here) else {}  # None: what an earlier try kept
        self._held = here.path / ".held"  # what the directory held when it was last still
        self._seen: Listing | None = None  # what that is; None for nothing
        self._said = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="katib-flow checkpoints", daemon=True)

    def __enter__(self) -> "Keeper":
        if self._on:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()

    def end(self, *, whole: bool) -> None:
        """Keep what the trial has left, now that its program has ended; where it has left nothing, nothing is kept.

        Args:
            whole: whether the program ended by itself. Of one that was killed, what it may have been writing then
                does not count: what it had written before does.
        """
        self._over.set()
        if not self._on:
            return
        self._thread.join()
        if whole:
            last = archive.listing(self._directory)
            self._hold(last)
            if self._seen != last and not self._said:
                self._say("its files could not be held as they were")
        if self._seen is not None and self._seen != self._kept:
            self._keep(None)

    def _watch(self) -> None:
        due, last = time.monotonic() + self._every, archive.listing(self._directory)
        while not self._over.wait(STILL_SECONDS):
            there = archive.listing(self._directory)
            if there and there == last:
                self._hold(there)
            last = there
            if self._seen is not None and self._seen != self._kept and time.monotonic() >= due:
                due = time.monotonic() + self._keep(0.0)

    def _hold(self, there: Listing) -> None:
        """Hold what is in the directory, whatever becomes of it."""
        try:
            if there != self._seen and (not there or archive.hold(self._directory, self._held, there)):
                self._seen = there
        except OSError as error:  # the disk is full, say
            self._say(str(error))

    def _say(self, why: str) -> None:
        """Tell of a failure, and of one that lasts only once."""
        text = f"{self._trial.id}: its checkpoint could not be kept: {why}"
        if text != self._said:
            print(text, file=sys.stderr)
        self._said = text

    def _keep(self, patience_seconds: float | None) -> float:
        """Have MLflow keep what is held; seconds until the next time. A failure is told, and no more."""
        there = self._seen
        try:
            with tempfile.TemporaryDirectory(prefix=".keep-", dir=self._directory.parent) as scratch:
                packed = Path(scratch) / f"{time.time_ns() // 1_000_000}.tar"
                if there and not archive.pack(self._held, packed, there, self._directory):
                    self._seen = None
                    return 0.0
                self._recorder.flush()  # what led to the checkpoint will not be reported again
                self._store.checkpoints.keep(self._trial, packed if there else None, patience_seconds)
        except (KatibFlowError, OSError) as error:
            self._say(str(error))
            return min(self._every, AGAIN_SECONDS)
        self._kept, self._said = there, ""
        return self._every
