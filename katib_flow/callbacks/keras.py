"""For Keras 3, on any of its backends."""

from pathlib import Path
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_keras = library("keras")


class KatibFlowCallback(_keras.callbacks.Callback):
    """Report what an epoch measured, and end the training when the trial should stop.

    The names are those of Keras (``loss``, ``val_accuracy``), the step is the number of epochs trained.

    Args:
        checkpoints: keep the whole model in the trial's directory after each epoch, its optimizer included;
            ``keras.saving.load_model(callback.checkpoint)`` and ``initial_epoch=callback.epochs`` go on from it.
    """

    def __init__(self, *, checkpoints: bool = False) -> None:
        super().__init__()
        self._keeps, self._checkpoints = checkpoints, Checkpoints("epoch", ".keras")

    @property
    def checkpoint(self) -> Path | None:
        """The model of this trial before a retry, or of the trial that it continues; None where there is none."""
        return self._checkpoints.latest()

    @property
    def epochs(self) -> int:
        """How many epochs ``checkpoint`` has been trained for; 0 where there is none."""
        return self._checkpoints.count()

    def on_train_begin(self, logs: Any = None) -> None:
        listen_for_stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if should_stop():
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if should_stop():  # an epoch that was cut short is none
            self.model.stop_training = True
            return
        report_numbers(logs, epoch + 1)
        if self._keeps:
            self._checkpoints.keep(epoch + 1, self.model.save)
