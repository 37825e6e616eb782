"""A trial's checkpoints across pods: its own of an earlier try, and its parent's.

They are on the volume that ``argo.checkpoints`` names, at ``<path>/<run>/<trial>``; without one they are the artifact
``checkpoint`` of the trial's run in MLflow, written when the trial ends or its pod is told to go.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from katib_flow.argo.steps.context import Context
from katib_flow.errors import NotFound
from katib_flow.history import Trial
from katib_flow.trial.protocol import TrialDirectory, model_files

ARTIFACT = "checkpoint"
MODEL_FILES = ("topology.json", "weights.safetensors")  # what a child inherits from


def place(context: Context, trial: Trial, directory: Path) -> TrialDirectory:
    """The trial's directory in this pod, with the checkpoints that there are."""
    parent = None if trial.suggestion.parent is None else parent_of(context, trial.suggestion.parent)
    there = directory.with_name("parent")
    found = parent is not None and any([_bring(context, parent, there), _bring_model(context, parent, there)])
    _bring(context, trial, directory)
    return TrialDirectory(directory, there if found else None)


def kept(context: Context, here: TrialDirectory) -> Mapping[str, Path]:
    """What is to be recorded as artifacts, so that another pod finds it: the trial's model, and its checkpoints."""
    model = model_files(here.model)
    if context.experiment.argo.checkpoints is not None or not here.checkpoint.is_dir():
        return model
    return model | ({ARTIFACT: here.checkpoint} if any(here.checkpoint.iterdir()) else {})


def parent_of(context: Context, index: int) -> Trial | None:
    """The trial of an index."""
    trial = context.store.trial(context.record, f"t{index:05d}")
    if trial is not None:
        return trial
    return next((each for each in context.store.history(context.record) if each.index == index), None)


def _bring_model(context: Context, trial: Trial, directory: Path) -> bool:
    """Put a trial's model into ``directory/model``; whether it has one."""
    if context.experiment.architecture is None:
        return False
    target = directory / "model"
    target.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        with contextlib.suppress(NotFound):
            shutil.copy(context.store.read_artifact(trial.run_id, name), target / name)
    return any(target.iterdir())


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
