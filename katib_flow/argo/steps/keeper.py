"""Upload a trial's checkpoints to MLflow while it runs, so that little is lost with a pod.

A checkpoint is the content of the directory at a time when nothing in it had changed for a moment and no file was being
written, so the next pod never finds a partial one.
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

STILL_SECONDS = 0.25  # without a change, after which the directory counts as complete
AGAIN_SECONDS = 30.0  # until the next upload after a failed one


class Keeper:
    """Uploads the checkpoints of one trial from its own thread, inside a ``with`` block.

    It does nothing if ``argo.checkpoints`` names a volume, because the checkpoints are already there.
    """

    def __init__(self, context: Context, trial: Trial, files: TrialDirectory, recorder: Recorder) -> None:
        self._store, self._trial, self._directory = context.store, trial, files.checkpoint
        self._recorder = recorder
        settings = context.experiment.argo.checkpoints
        self._on, self._every = settings.claim is None, settings.every
        self._kept: Listing | None = None if resumed(files) else {}  # None: the upload of an earlier attempt
        self._held = files.path / ".held"  # a snapshot of the directory when it was last complete
        self._seen: Listing | None = None  # the listing of the snapshot, once it exists
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
        """Upload the last checkpoint after the trial's program has ended.

        Args:
            whole: whether the program ended by itself. If it was killed, files it may have been writing do not count,
                and the last snapshot is uploaded.
        """
        self._over.set()
        if not self._on:
            return
        self._thread.join()
        if whole:
            last = archive.listing(self._directory)
            self._hold(last)
            if self._seen != last and not self._said:
                self._say("no consistent snapshot of its files could be taken")
        if self._seen is not None and self._seen != self._kept:
            self._keep(None)

    def _watch(self) -> None:
        due, last = time.monotonic() + self._every, archive.listing(self._directory)
        while not self._over.wait(STILL_SECONDS):
            current = archive.listing(self._directory)
            if current and current == last:
                self._hold(current)
            last = current
            if self._seen is not None and self._seen != self._kept and time.monotonic() >= due:
                due = time.monotonic() + self._keep(0.0)

    def _hold(self, current: Listing) -> None:
        """Take a snapshot of the directory."""
        try:
            if current != self._seen and (not current or archive.hold(self._directory, self._held, current)):
                self._seen = current
        except OSError as error:  # such as a full disk
            self._say(str(error))

    def _say(self, why: str) -> None:
        """Print a failure, but only once while it lasts."""
        text = f"{self._trial.id}: cannot save its checkpoint: {why}"
        if text != self._said:
            print(text, file=sys.stderr)
        self._said = text

    def _keep(self, patience_seconds: float | None) -> float:
        """Upload the snapshot; return the seconds until the next upload. A failure is only printed."""
        listing = self._seen
        try:
            with tempfile.TemporaryDirectory(prefix=".keep-", dir=self._directory.parent) as scratch:
                packed = Path(scratch) / f"{time.time_ns() // 1_000_000}.tar"
                if listing and not archive.pack(self._held, packed, listing, self._directory):
                    self._seen = None
                    return 0.0
                self._recorder.flush()  # a resumed trial does not report the metrics before its checkpoint again
                self._store.checkpoints.keep(self._trial, packed if listing else None, patience_seconds)
        except (KatibFlowError, OSError) as error:
            self._say(str(error))
            return min(self._every, AGAIN_SECONDS)
        self._kept, self._said = listing, ""
        return self._every
