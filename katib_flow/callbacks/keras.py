"""The callback for Keras 3, with any backend."""

from pathlib import Path
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_keras = library("keras")


class KatibFlowCallback(_keras.callbacks.Callback):
    """Reports the metrics of each epoch, and ends the training when the trial should stop.

    The names are those of Keras (``loss``, ``val_accuracy``); the step is the number of trained epochs.

    Args:
        checkpoints: save the complete model, with its optimizer, in the trial's directory after each epoch;
            ``keras.saving.load_model(callback.checkpoint)`` and ``initial_epoch=callback.epochs`` continue from it.
    """

    def __init__(self, *, checkpoints: bool = False) -> None:
        super().__init__()
        self._keeps, self._checkpoints = checkpoints, Checkpoints("epoch", ".keras")

    @property
    def checkpoint(self) -> Path | None:
        """The newest model of this trial, from before a retry, or of the trial that it continues; None without one."""
        return self._checkpoints.latest()

    @property
    def epochs(self) -> int:
        """The number of epochs that ``checkpoint`` was trained for; 0 if there is no checkpoint."""
        return self._checkpoints.count()

    def on_train_begin(self, logs: Any = None) -> None:
        """Have SIGTERM set ``should_stop``."""
        listen_for_stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """End the training if the trial should stop."""
        if should_stop():
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the metrics of an epoch, and save a checkpoint."""
        if should_stop():  # an incomplete epoch does not count
            self.model.stop_training = True
            return
        report_numbers(logs, epoch + 1)
        if self._keeps:
            self._checkpoints.keep(epoch + 1, self.model.save)
