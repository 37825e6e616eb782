"""The callback for LightGBM: ``lightgbm.train``, ``lightgbm.cv``, and its estimators for scikit-learn."""

from typing import Any

from katib_flow.callbacks.shared import RoundCheckpoints, library, listen_for_stop, report_numbers, should_stop

_lightgbm = library("lightgbm")


class KatibFlowCallback(RoundCheckpoints):
    """Reports all metrics of all validation sets after each round, and ends the training when the trial should stop.

    The names are the validation set and the metric, ``valid_0-auc``. The step is the number of boosted rounds. For
    ``lightgbm.cv`` the mean over the folds is reported.

    Args:
        checkpoints: the number of rounds between two checkpoints, which are saved in the trial's directory; 0 for no
            checkpoints. ``init_model=callback.checkpoint`` and ``num_boost_round=rounds - callback.rounds`` continue
            from the newest.
    """

    order = 25  # after LightGBM's own callbacks that record and print, before its early stopping

    suffix = ".txt"

    def __call__(self, env: Any) -> None:
        """Report and save a round; LightGBM calls this after each round.

        Raises:
            lightgbm.EarlyStopException: the trial should stop; it ends ``lightgbm.train`` normally.
        """
        if env.iteration == env.begin_iteration:
            listen_for_stop()
        results, rounds = env.evaluation_result_list or [], env.iteration + 1
        report_numbers(dict(map(_named, results)), rounds)
        if hasattr(env.model, "num_trees"):  # missing in the models of a cross-validation, which are not saved
            self.keep_model(rounds, env.model.save_model)
        if should_stop():
            raise _lightgbm.callback.EarlyStopException(env.iteration, results)


def _named(result: Any) -> tuple[str, float]:
    """The name and value of an evaluation, a tuple that begins with data set, metric and value."""
    return f"{result[0]}-{result[1]}", result[2]
