"""For LightGBM: ``lightgbm.train``, ``lightgbm.cv``, and its estimators for scikit-learn."""

from typing import Any

from katib_flow.callbacks.shared import RoundCheckpoints, library, listen_for_stop, report_numbers, should_stop

_lightgbm = library("lightgbm")


class KatibFlowCallback(RoundCheckpoints):
    """Report every metric of every validation set after each round, and end the training when the trial should stop.

    The names are the validation set and the metric, ``valid_0-auc``. The step is the number of rounds boosted. Of
    ``lightgbm.cv`` the mean over the folds is reported.

    Args:
        checkpoints: keep the model in the trial's directory after every so many rounds;
            ``init_model=callback.checkpoint`` and ``num_boost_round=rounds - callback.rounds`` go on from it. 0 keeps
            none.
    """

    order = 25  # after LightGBM's own callbacks that record and print, before its early stopping

    suffix = ".txt"

    def __call__(self, env: Any) -> None:
        """What LightGBM calls after each round.

        Raises:
            lightgbm.EarlyStopException: the trial should stop; ``lightgbm.train`` takes it for the end of the training.
        """
        if env.iteration == env.begin_iteration:
            listen_for_stop()
        results, rounds = env.evaluation_result_list or [], env.iteration + 1
        report_numbers(dict(map(_named, results)), rounds)
        if hasattr(env.model, "num_trees"):  # the models of a cross-validation have none
            self.keep_model(rounds, env.model.save_model)
        if should_stop():
            raise _lightgbm.callback.EarlyStopException(env.iteration, results)


def _named(result: Any) -> tuple[str, float]:
    """The name and the value of an evaluation, a tuple that begins with the data set, the metric and the value."""
    return f"{result[0]}-{result[1]}", result[2]
