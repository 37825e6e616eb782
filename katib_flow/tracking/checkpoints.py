"""A running trial's checkpoint in MLflow: one archive, which is valid once a tag of the trial's run names it.

So a checkpoint is complete or does not exist, and never mixes with files of an older one, even if an upload is cut
short; MLflow itself can neither replace a directory nor make two changes in one transaction.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from katib_flow.errors import KatibFlowError, NotFound
from katib_flow.history import Trial
from katib_flow.tracking.api import Run
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.encode import milliseconds
from katib_flow.tracking.runs import ApiBackend

FOLDER, TAG = "checkpoint", "katib_flow.checkpoint"
_STARTED = "katib_flow.started"


class Checkpoints:
    """Writes and finds the checkpoints of running trials.

    Args:
        run: looks up a run by its id.
    """

    def __init__(self, backend: ApiBackend, artifacts: Artifacts, run: Callable[[str], Run]) -> None:
        self._backend, self._artifacts, self._run = backend, artifacts, run

    def keep(self, trial: Trial, archive: Path | None, patience_seconds: float | None = None) -> bool:
        """Replace a trial's checkpoint.

        Args:
            archive: a file whose name is unique within the trial; None removes the checkpoint.

        Returns:
            False if another attempt of the trial has begun, whose checkpoint is left alone.

        Raises:
            TrackingError: it cannot be written.
        """
        address = self._run(trial.run_id).artifact_uri
        name = f"{FOLDER}/{archive.name}" if archive else ""
        if archive:
            self._artifacts.write(address, name, archive, patience_seconds)
        if self._run(trial.run_id).tags.get(_STARTED) != str(milliseconds(trial.started)):
            return False
        self._backend.log(trial.run_id, {}, {TAG: name}, ())
        self._drop_others(address, name)
        return True

    def _drop_others(self, address: str, name: str) -> None:
        """Delete the other archives, unless the store refuses to delete."""
        with contextlib.suppress(KatibFlowError):
            for other in self._artifacts.names(address, FOLDER):
                if other != name:
                    self._artifacts.delete(address, other)

    def find(self, run_id: str) -> Path | None:
        """A local copy of the archive that a run names; None if the run has no checkpoint.

        Raises:
            TrackingError: it cannot be read.
        """
        while name := (run := self._run(run_id)).tags.get(TAG, ""):
            try:
                return self._artifacts.get(run.artifact_uri, name)
            except NotFound:
                if self._run(run_id).tags.get(TAG) == name:  # otherwise a newer checkpoint has replaced it
                    raise
        return None
