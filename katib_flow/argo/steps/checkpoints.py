"""A trial's checkpoints across pods: its own of an earlier try, and its parent's.

They are on the volume that ``argo.checkpoints`` names, at ``<path>/<run>/<trial>``; without one they are in MLflow,
where ``keeper`` puts them.
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

RESUMED = "resumed"  # beside the trial's checkpoints, where an earlier try left them


def place(context: Context, trial: Trial, directory: Path) -> TrialDirectory:
    """The trial's directory in this pod, with the checkpoints that there are and what it inherits from its parent."""
    parent = parent_of(context, trial)
    here = with_model(context, parent, TrialDirectory(directory))
    if parent is not None and _bring(context, parent, _beside(directory)):
        here = replace(here, parent=_beside(directory))
    if _bring(context, trial, directory):
        (directory / RESUMED).touch()
    return here


def resumed(here: TrialDirectory) -> bool:
    """Whether the trial found a checkpoint of an earlier try of its own."""
    return (here.path / RESUMED).exists()


def earlier(context: Context, trial: Trial, here: TrialDirectory) -> list[Metric]:
    """What earlier tries of a trial have reported; nothing where it begins anew."""
    told = context.store.trial(context.record, trial.id, series=True) if resumed(here) else None
    return told.reported if told else []


def parent_of(context: Context, trial: Trial) -> Trial | None:
    """The trial to continue or inherit from; None where there is none."""
    index = trial.suggestion.parent
    if index is None:
        return None
    parent = context.store.trial(context.record, f"t{index:05d}")
    if parent is not None:
        return parent
    return next((each for each in context.store.history(context.record) if each.index == index), None)


def with_model(context: Context, parent: Trial | None, here: TrialDirectory) -> TrialDirectory:
    """The trial's directory; where it has a parent in a search of architectures, with the parent's model beside it."""
    if context.experiment.architecture is None or parent is None:
        return here
    beside = _beside(here.path)
    fetch_model(context.store, parent.run_id, TrialDirectory(beside).model)
    return replace(here, parent=beside)


def _beside(directory: Path) -> Path:
    """Where the parent's files lie."""
    return directory.with_name("parent")


def _bring(context: Context, trial: Trial, directory: Path) -> bool:
    """Put a trial's checkpoints into ``directory/checkpoint``; whether there are any."""
    target = TrialDirectory(directory).checkpoint
    directory.mkdir(parents=True, exist_ok=True)
    volume = context.experiment.argo.checkpoints
    if volume.claim is not None:
        there = Path(volume.path) / context.record.key / trial.id
        there.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(there)
        return any(there.iterdir())
    if target.exists():
        return any(target.iterdir())  # this pod's container has been started again
    archive = context.store.checkpoints.find(trial.run_id)
    if archive is None:
        return False
    try:
        unpack(archive, target)
    except (OSError, tarfile.TarError) as error:
        raise KatibFlowError(f"{trial.id}: its checkpoint cannot be unpacked: {error}") from error
    return True
