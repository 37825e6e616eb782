"""For XGBoost: ``xgboost.train``, ``xgboost.cv``, and its estimators for scikit-learn."""

from collections.abc import Mapping, Sequence
from typing import Any

from katib_flow.callbacks.shared import RoundCheckpoints, library, listen_for_stop, report_numbers, should_stop

_xgboost = library("xgboost")


class KatibFlowCallback(RoundCheckpoints, _xgboost.callback.TrainingCallback):
    """Report every metric of every evaluation set after each round, and end the training when the trial should stop.

    The names are those that XGBoost prints, ``valid-auc``: the evaluation set and the metric. The step is the number of
    rounds boosted. Of ``xgboost.cv`` the mean over the folds is reported.

    Args:
        checkpoints: keep the model in the trial's directory after every so many rounds;
            ``xgb_model=callback.checkpoint`` and ``num_boost_round=rounds - callback.rounds`` go on from it. 0 keeps
            none.
    """

    suffix = ".ubj"

    def before_training(self, model: Any) -> Any:
        listen_for_stop()
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Sequence[Any]]]) -> bool:
        rounds = model.num_boosted_rounds()
        latest = {
            f"{data}-{name}": series[-1] for data, metrics in evals_log.items() for name, series in metrics.items()
        }
        report_numbers(
            {name: value[0] if isinstance(value, tuple) else value for name, value in latest.items()}, rounds
        )
        if hasattr(model, "save_model"):  # the models of a cross-validation have none
            self.keep_model(rounds, model.save_model)
        return should_stop()
