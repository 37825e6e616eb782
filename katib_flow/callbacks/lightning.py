"""The callback for PyTorch Lightning: ``lightning``, or ``pytorch_lightning`` if the program has imported that."""

from pathlib import Path
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_lightning = library("lightning", "lightning.pytorch", "pytorch_lightning")


class KatibFlowCallback(_lightning.Callback):
    """Reports the metrics that the module logs, and ends the training when the trial should stop.

    A metric of ``self.log`` is reported under its own name, with the number of trained epochs as its step: validation
    metrics after each validation, training metrics after each epoch. With several processes, the first one reports, and
    all end together.

    Args:
        checkpoints: save a checkpoint in the trial's directory after each epoch, and keep the newest;
            ``trainer.fit(model, ckpt_path=callback.checkpoint)`` continues from it.
    """

    def __init__(self, *, checkpoints: bool = False) -> None:
        super().__init__()
        self._keeps, self._checkpoints = checkpoints, Checkpoints("epoch", ".ckpt")
        self._before: dict[str, Any] = {}

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint of this trial, from before a retry, or of the trial that it continues; or None."""
        return self._checkpoints.latest()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Have SIGTERM set ``should_stop``, after Lightning has set its own handler."""
        listen_for_stop()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember the metrics, to see which ones the epoch logs."""
        self._before = dict(trainer.callback_metrics)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember the metrics, to see which ones the validation logs."""
        self._before = dict(trainer.callback_metrics)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """End the training in all processes if the trial should stop."""
        if trainer.strategy.reduce_boolean_decision(should_stop(), all=False):
            trainer.should_stop = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of a validation, unless it is the sanity check."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._report(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the metrics of an epoch, and save a checkpoint."""
        self._report(trainer)
        if self._keeps and not trainer.should_stop:
            self._checkpoints.keep(trainer.current_epoch + 1, trainer.save_checkpoint, rename=trainer.is_global_zero)

    def _report(self, trainer: Any) -> None:
        logged = dict(trainer.callback_metrics)  # values that were logged earlier remain, as the same objects
        fresh = {name: value for name, value in logged.items() if value is not self._before.get(name)}
        self._before = logged
        if trainer.is_global_zero and not should_stop():  # an incomplete epoch does not count
            report_numbers(fresh, trainer.current_epoch + 1)
