"""For the Trainer of Hugging Face's Transformers, and those that are built on it."""

from collections.abc import Mapping
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_transformers = library("transformers")


class KatibFlowCallback(_transformers.TrainerCallback):
    """Report what the Trainer logs, and end the training when the trial should stop.

    The names are those of the Trainer (``loss``, ``eval_loss``), the step is its ``global_step``.

    The Trainer writes checkpoints itself: with ``output_dir=kf.checkpoint_dir()`` in its arguments and a
    ``save_strategy``, ``trainer.train(resume_from_checkpoint=callback.checkpoint)`` goes on from the newest.
    """

    _checkpoints = Checkpoints("checkpoint", contains="trainer_state.json")  # the file that the Trainer writes last

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint of this trial before a retry, or of the trial that it continues; None where there is none."""
        path = self._checkpoints.latest()
        return None if path is None else str(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        listen_for_stop()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if should_stop():
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            report_numbers(logs, state.global_step)
