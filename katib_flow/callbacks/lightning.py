"""For PyTorch Lightning: the package ``lightning``, or ``pytorch_lightning`` where a program has imported that one."""

from pathlib import Path
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_lightning = library("lightning", "lightning.pytorch", "pytorch_lightning")


class KatibFlowCallback(_lightning.Callback):
    """Report what the module logs, and end the training when the trial should stop.

    What ``self.log`` is given is reported under its own name, with the number of epochs trained as its step: values of
    validation after each validation, those of training after each epoch. With several processes the first reports, and
    all end together.

    Args:
        checkpoints: keep the newest checkpoint in the trial's directory, one after each epoch; ``checkpoint`` is that
            to go on from: ``trainer.fit(model, ckpt_path=callback.checkpoint)``.
    """

    def __init__(self, *, checkpoints: bool = False) -> None:
        super().__init__()
        self._keeps, self._checkpoints = checkpoints, Checkpoints("epoch", ".ckpt")
        self._before: dict[str, Any] = {}

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint of this trial before a retry, or of the trial that it continues; None where there is none."""
        return self._checkpoints.latest()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # Lightning has set its own handler of SIGTERM
        listen_for_stop()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._before = dict(trainer.callback_metrics)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._before = dict(trainer.callback_metrics)

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        if trainer.strategy.reduce_boolean_decision(should_stop(), all=False):
            trainer.should_stop = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._report(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._report(trainer)
        if self._keeps and not trainer.should_stop:
            self._checkpoints.keep(trainer.current_epoch + 1, trainer.save_checkpoint, rename=trainer.is_global_zero)

    def _report(self, trainer: Any) -> None:
        logged = dict(trainer.callback_metrics)  # what was logged earlier stays in it, the same objects
        fresh = {name: value for name, value in logged.items() if value is not self._before.get(name)}
        self._before = logged
        if trainer.is_global_zero and not should_stop():  # an epoch that was cut short is none
            report_numbers(fresh, trainer.current_epoch + 1)
