"""Requests to an early stopping service, its replies, and a server of trials' curves for it."""

import math
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import grpc

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Metric
from katib_flow.katib_api.calls import handlers
from katib_flow.katib_api.messages import message, number
from katib_flow.katib_api.suggestion import NAME, early_stopping_message, experiment_message, trial_message
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import SearchSpace

MOST_RULES = 100
_COMPARISONS = {"EQUAL": "==", "LESS": "<", "GREATER": ">"}


def settings_request(experiment: Experiment) -> Any:
    """The request for ``ValidateEarlyStoppingSettings``."""
    assert experiment.early_stopping is not None
    spec = early_stopping_message(experiment.early_stopping)
    return message("ValidateEarlyStoppingSettingsRequest")(early_stopping=spec)


def rules_request(experiment: Experiment, space: SearchSpace, history: History, curves: str) -> Any:
    """The request for ``GetEarlyStoppingRules``.

    Args:
        curves: the address from which the service can request the curves of trials; see ``curves_served``.
    """
    return message("GetEarlyStoppingRulesRequest")(
        experiment=experiment_message(experiment, space, {}),
        trials=[trial_message(experiment, trial) for trial in history],
        db_manager_address=curves,
    )


def rules_of(reply: Any) -> list[dict[str, Any]]:
    """The rules in a reply as plain data: metric, value, comparison (``<``, ``>`` or ``==``) and start_step.

    Raises:
        KatibFlowError: a rule is invalid, or there are more than 100.
    """
    rules = list(reply.early_stopping_rules)
    if len(rules) > MOST_RULES:
        raise KatibFlowError(f"returned {len(rules)} rules, but the maximum is {MOST_RULES}")
    return [_rule(position, rule) for position, rule in enumerate(rules)]


def _rule(position: int, rule: Any) -> dict[str, Any]:
    comparisons = {number("ComparisonType", name): sign for name, sign in _COMPARISONS.items()}
    try:
        value = float(rule.value)
    except ValueError:
        value = math.nan
    wrong = {
        "name": (rule.name, "the name of a metric") if not rule.name else None,
        "value": (rule.value, "a finite number") if not math.isfinite(value) else None,
        "comparison": (rule.comparison, ", ".join(_COMPARISONS)) if rule.comparison not in comparisons else None,
        "start_step": (rule.start_step, "a number of at least 0") if rule.start_step < 0 else None,
    }
    for key, mistake in wrong.items():
        if mistake:
            why = f"early_stopping_rules[{position}].{key}: found {mistake[0]!r}, need {mistake[1]}"
            raise KatibFlowError(f"returned an invalid rule: {why}")
    comparison = comparisons[rule.comparison]
    return {"metric": rule.name, "value": value, "comparison": comparison, "start_step": rule.start_step}


@contextmanager
def curves_served(history: History) -> Generator[str]:
    """Serve ``DBManager.GetObservationLog`` from a history with series; yields the server's address, on loopback."""
    names = {str(trial.suggestion.info.get(NAME) or trial.id): trial for trial in history}

    def log(request: Any) -> Any:
        reply = message("GetObservationLogReply")()
        trial = names.get(request.trial_name)
        for metric in trial.series.get(request.metric_name, ()) if trial else ():
            if not isinstance(metric.value, tuple):
                entry = reply.observation_log.metric_logs.add(time_stamp=_time(metric))
                entry.metric.name, entry.metric.value = metric.name, repr(metric.value)
        return reply

    methods: dict[str, Callable[[Any], Any]] = {"GetObservationLog": log}
    with ThreadPoolExecutor(2, "katib-flow curves") as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([handlers("DBManager", methods)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def _time(metric: Metric) -> str:
    return f"{datetime.fromtimestamp(metric.timestamp_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
