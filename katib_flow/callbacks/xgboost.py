"""The callback for XGBoost: ``xgboost.train``, ``xgboost.cv``, and its estimators for scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

from katib_flow.callbacks.shared import RoundCheckpoints, library, listen_for_stop, report_numbers, should_stop

_xgboost = library("xgboost")


class KatibFlowCallback(RoundCheckpoints, _xgboost.callback.TrainingCallback):
    """Reports all metrics of all evaluation sets after each round, and ends the training when the trial should stop.

    The names are those that XGBoost prints, ``valid-auc``: the evaluation set and the metric. The step is the number of
    boosted rounds. For ``xgboost.cv`` the mean over the folds is reported.

    Args:
        checkpoints: the number of rounds between two checkpoints, which are saved in the trial's directory; 0 for no
            checkpoints. ``xgb_model=callback.checkpoint`` and ``num_boost_round=rounds - callback.rounds`` continue
            from the newest.
    """

    suffix = ".ubj"

    def before_training(self, model: Any) -> Any:
        """Have SIGTERM set ``should_stop``."""
        listen_for_stop()
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Sequence[Any]]]) -> bool:
        """Report and save a round; True ends the training."""
        rounds = model.num_boosted_rounds()
        latest = {
            f"{data}-{name}": series[-1] for data, metrics in evals_log.items() for name, series in metrics.items()
        }
        report_numbers(
            {name: value[0] if isinstance(value, tuple) else value for name, value in latest.items()}, rounds
        )
        if hasattr(model, "save_model"):  # missing in the models of a cross-validation, which are not saved
            self.keep_model(rounds, model.save_model)
        return should_stop()
