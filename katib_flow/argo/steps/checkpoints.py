"""Bring a trial's checkpoints to its pod: those of its earlier attempts, and its parent's.

Checkpoints are on the volume of ``argo.checkpoints``, at ``<path>/<run>/<trial>``. Without a volume they are in MLflow,
where ``keeper`` uploads them.
"""

import tarfile
from dataclasses import replace
from pathlib import Path

from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import Metric, Trial
from katib_flow.tracking.models import fetch_model
from katib_flow.trial.archive import unpack
from katib_flow.trial.protocol import TrialDirectory

RESUMED = "resumed"  # marks a trial's directory that holds checkpoints of an earlier attempt


def prepared(context: Context, trial: Trial, directory: Path) -> TrialDirectory:
    """Return the trial's directory in this pod, with the checkpoints of earlier attempts and of its parent.

    Raises:
        KatibFlowError: a checkpoint cannot be read or unpacked.
    """
    parent = parent_of(context, trial)
    files = with_model(context, parent, TrialDirectory(directory))
    if parent is not None and _fetch(context, parent, _parent_directory(directory)):
        files = replace(files, parent=_parent_directory(directory))
    if _fetch(context, trial, directory):
        (directory / RESUMED).touch()
    return files


def resumed(files: TrialDirectory) -> bool:
    """Whether the trial resumes from a checkpoint of an earlier attempt."""
    return (files.path / RESUMED).exists()


def earlier(context: Context, trial: Trial, files: TrialDirectory) -> list[Metric]:
    """Return the metrics that earlier attempts of a trial reported; empty if the trial starts from scratch."""
    recorded = context.store.trial(context.record, trial.id, series=True) if resumed(files) else None
    return recorded.reported if recorded else []


def parent_of(context: Context, trial: Trial) -> Trial | None:
    """Return the trial to continue or inherit from, if any."""
    index = trial.suggestion.parent
    if index is None:
        return None
    parent = context.store.trial(context.record, f"t{index:05d}")
    if parent is not None:
        return parent
    return next((other for other in context.store.history(context.record) if other.index == index), None)


def with_model(context: Context, parent: Trial | None, files: TrialDirectory) -> TrialDirectory:
    """Return the trial's directory, in an architecture search with the parent's model in a directory beside it."""
    if context.experiment.architecture is None or parent is None:
        return files
    directory = _parent_directory(files.path)
    fetch_model(context.store, parent.run_id, TrialDirectory(directory).model)
    return replace(files, parent=directory)


def _parent_directory(directory: Path) -> Path:
    return directory.with_name("parent")


def _fetch(context: Context, trial: Trial, directory: Path) -> bool:
    """Bring a trial's checkpoints to ``directory/checkpoint``; return whether there are any."""
    target = TrialDirectory(directory).checkpoint
    directory.mkdir(parents=True, exist_ok=True)
    volume = context.experiment.argo.checkpoints
    if volume.claim is not None:
        stored = Path(volume.path) / context.record.key / trial.id
        stored.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(stored)
        return any(stored.iterdir())
    if target.exists():
        return any(target.iterdir())  # the pod's container was restarted
    archive = context.store.checkpoints.find(trial.run_id)
    if archive is None:
        return False
    try:
        unpack(archive, target)
    except (OSError, tarfile.TarError) as error:
        raise KatibFlowError(f"{trial.id}: cannot unpack its checkpoint: {error}") from error
    return True
