"""Downloads a trial's model from the artifacts of its run."""

import contextlib
import shutil
from pathlib import Path

from katib_flow.errors import NotFound
from katib_flow.tracking.store import Store

FILES = ("topology.json", "weights.safetensors")


def fetch_model(store: Store, run_id: str, directory: Path) -> None:
    """Copy the files of a run's model into a directory; missing files are skipped."""
    for name in FILES:
        with contextlib.suppress(NotFound):
            path = store.read_artifact(run_id, name)
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, directory / name)
