"""build-model: build the models of an iteration's trials and store them in MLflow before training."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from katib_flow.argo.steps import checkpoints
from katib_flow.argo.steps.context import Context
from katib_flow.errors import KatibFlowError
from katib_flow.history import State, Trial
from katib_flow.tracking import Change
from katib_flow.trial.protocol import TrialDirectory, model_files
from katib_flow.trial.runner import prepare_model


def build_models(context: Context, iteration: int) -> list[str]:
    """Build and record the models of an iteration. A trial whose model cannot be built fails.

    Returns:
        The ids of the trials whose models were built.
    """
    if not context.is_newest() or context.experiment.architecture is None:
        return []
    turn = (context.segment, iteration)
    waiting = [
        trial
        for trial in context.store.history(context.record)
        if trial.state is State.PENDING and trial.position and trial.position.turn == turn
    ]
    return [trial.id for trial in waiting if _build(context, trial)]


def _build(context: Context, trial: Trial) -> bool:
    with tempfile.TemporaryDirectory(prefix="katib-flow-") as scratch:
        files = TrialDirectory(Path(scratch) / "trial")
        files = checkpoints.with_model(context, checkpoints.parent_of(context, trial), files)
        try:
            prepare_model(context.experiment, trial.suggestion, files)
        except KatibFlowError as error:
            failed = replace(trial, state=State.FAILED, message=f"no model: {error}", ended=time.time())
            context.store.write(context.record, [Change(failed)])
            return False
        context.store.write(context.record, [Change(trial, artifacts=model_files(files.model))])
    return True
