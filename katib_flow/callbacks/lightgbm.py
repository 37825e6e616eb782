"""For LightGBM: ``lightgbm.train``, ``lightgbm.cv``, and its estimators for scikit-learn."""

from pathlib import Path
from typing import Any

from katib_flow.callbacks.shared import Checkpoints, library, listen_for_stop, report_numbers, should_stop

_lightgbm = library("lightgbm")


class KatibFlowCallback:
    """Report every metric of every validation set after each round, and end the training when the trial should stop.

    The names are the validation set and the metric, ``valid_0-auc``. The step is the number of rounds boosted. Of
    ``lightgbm.cv`` the mean over the folds is reported.

    Args:
        checkpoints: keep the model in the trial's directory after every so many rounds;
            ``init_model=callback.checkpoint`` and ``num_boost_round=rounds - callback.rounds`` go on from it. 0 keeps
            none.
    """

    order = 25  # after LightGBM's own callbacks that record and print, before its early stopping

    def __init__(self, *, checkpoints: int = 0) -> None:
        self._every, self._checkpoints = checkpoints, Checkpoints("round", ".txt")

    @property
    def checkpoint(self) -> Path | None:
        """The model of this trial before a retry, or of the trial that it continues; None where there is none."""
        return self._checkpoints.latest()

    @property
    def rounds(self) -> int:
        """How many rounds ``checkpoint`` has been boosted for; 0 where there is none."""
        return self._checkpoints.count()

    def __call__(self, env: Any) -> None:
        """What LightGBM calls after each round.

        Raises:
            lightgbm.EarlyStopException: the trial should stop; ``lightgbm.train`` takes it for the end of the training.
        """
        if env.iteration == env.begin_iteration:
            listen_for_stop()
        results, rounds = env.evaluation_result_list or [], env.iteration + 1
        report_numbers(dict(map(_named, results)), rounds)
        if self._every and rounds % self._every == 0 and hasattr(env.model, "num_trees"):
            self._checkpoints.keep(rounds, env.model.save_model)
        if should_stop():
            raise _lightgbm.callback.EarlyStopException(env.iteration, results)


def _named(result: Any) -> tuple[str, float]:
    """The name and the value of an evaluation, a tuple that begins with the data set, the metric and the value."""
    return f"{result[0]}-{result[1]}", result[2]
