"""The callback for the Trainer of Hugging Face's Transformers, and for trainers built on it."""

from collections.abc import Mapping
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_transformers = library("transformers")


class KatibFlowCallback(_transformers.TrainerCallback):
    """Reports the metrics that the Trainer logs, and ends the training when the trial should stop.

    The names are those of the Trainer (``loss``, ``eval_loss``); the step is its ``global_step``.

    The Trainer saves checkpoints itself: with ``output_dir=kf.checkpoint_dir()`` in its arguments and a
    ``save_strategy``, ``trainer.train(resume_from_checkpoint=callback.checkpoint)`` continues from the newest.
    """

    _checkpoints = Checkpoints("checkpoint", contains="trainer_state.json")  # the file that the Trainer writes last

    @property
    def checkpoint(self) -> str | None:
        """The newest checkpoint of this trial, from before a retry, or of the trial that it continues; or None."""
        path = self._checkpoints.latest()
        return None if path is None else str(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have SIGTERM set ``should_stop``."""
        listen_for_stop()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the training if the trial should stop."""
        if should_stop():
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Report the logged metrics, in the first process only."""
        if state.is_world_process_zero:
            report_numbers(logs, state.global_step)
