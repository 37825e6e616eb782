"""A running trial's checkpoint in MLflow: one archive, which counts from when the trial's run names it in a tag.

So it is there wholly or not at all, and holds no file of an older one, whatever is cut off in its midst; MLflow itself
can neither replace a directory nor take two steps in one.
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
    """Args:
    run: looks a run up by its id.
    """

    def __init__(self, backend: ApiBackend, artifacts: Artifacts, run: Callable[[str], Run]) -> None:
        self._backend, self._artifacts, self._run = backend, artifacts, run

    def keep(self, trial: Trial, archive: Path | None, patience_seconds: float | None = None) -> bool:
        """Have a trial's checkpoint be an archive, whose name no other one of the trial has; None for no checkpoint.

        Returns:
            False where another try of the trial has begun: it is left alone.

        Raises:
            TrackingError: it cannot be written.
        """
        address = self._run(trial.run_id).artifact_uri
        name = f"{FOLDER}/{archive.name}" if archive else ""
        if archive:
            self._artifacts.put(address, name, archive, patience_seconds)
        if self._run(trial.run_id).tags.get(_STARTED) != str(milliseconds(trial.started)):
            return False
        self._backend.log(trial.run_id, {}, {TAG: name}, ())
        self._drop_others(address, name)
        return True

    def _drop_others(self, address: str, name: str) -> None:
        """Delete the archives that no longer count, where the store can; one that cannot keeps them."""
        with contextlib.suppress(KatibFlowError):
            for other in self._artifacts.names(address, FOLDER):
                if other != name:
                    self._artifacts.delete(address, other)

    def find(self, run_id: str) -> Path | None:
        """A local file with the archive that a run names; None where it names none.

        Raises:
            TrackingError: it cannot be read.
        """
        while name := (run := self._run(run_id)).tags.get(TAG, ""):
            try:
                return self._artifacts.get(run.artifact_uri, name)
            except NotFound:
                if self._run(run_id).tags.get(TAG) == name:  # else a newer one has taken its place
                    raise
        return None
