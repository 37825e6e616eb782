"""A trial's checkpoints across pods: its own of an earlier try, and its parent's.

They are on the volume that ``argo.checkpoints`` names, at ``<path>/<run>/<trial>``; without one they are the artifact
``checkpoint`` of the trial's run in MLflow, written when the trial ends or its pod is told to go.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from katib_flow.argo.steps.context import Context
from katib_flow.errors import NotFound
from katib_flow.history import Trial
from katib_flow.tracking.models import fetch_model
from katib_flow.trial.protocol import TrialDirectory, model_files

ARTIFACT = "checkpoint"


def place(context: Context, trial: Trial, directory: Path) -> TrialDirectory:
    """The trial's directory in this pod, with the checkpoints that there are and what it inherits from its parent."""
    parent = parent_of(context, trial)
    here = with_model(context, parent, TrialDirectory(directory))
    if parent is not None and _bring(context, parent, _beside(directory)):
        here = replace(here, parent=_beside(directory))
    _bring(context, trial, directory)
    return here


def kept(context: Context, here: TrialDirectory) -> Mapping[str, Path]:
    """What is to be recorded as artifacts, so that another pod finds it: the trial's model, and its checkpoints."""
    model = model_files(here.model)
    if context.experiment.argo.checkpoints is not None or not here.checkpoint.is_dir():
        return model
    return model | ({ARTIFACT: here.checkpoint} if any(here.checkpoint.iterdir()) else {})


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
    target = directory / ARTIFACT
    directory.mkdir(parents=True, exist_ok=True)
    volume = context.experiment.argo.checkpoints
    if volume is not None:
        there = Path(volume.path) / context.record.key / trial.id
        there.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(there)
        return any(there.iterdir())
    if target.exists():
        return any(target.iterdir())  # this pod's container has been started again
    try:
        shutil.copytree(context.store.read_artifact(trial.run_id, ARTIFACT), target)
    except NotFound:
        return False
    return True
