"""A service of early stopping of Katib's API, which does what Katib's medianstop does: it asks for the curves of the
trials that have succeeded, and takes the median of the averages of their first values.

It says where it listens, then serves until its standard input ends.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import mean, median
from typing import Any

import grpc

from katib_flow.katib_api.calls import Refusal, call, handlers
from katib_flow.katib_api.messages import message, number

SUCCEEDED = number("TrialStatus.TrialConditionType", "SUCCEEDED")
DEFAULTS = {"min_trials_required": "3", "start_step": "4"}


def settings_of(spec: Any) -> dict[str, int]:
    given = {setting.name: setting.value for setting in spec.algorithm_settings}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise Refusal(f"unknown setting {unknown[0]}")
    return {name: int(value) for name, value in (DEFAULTS | given).items()}


def validated(request: Any) -> Any:
    settings_of(request.early_stopping)
    return message("ValidateEarlyStoppingSettingsReply")()


def rules(request: Any) -> Any:
    spec = request.experiment.spec
    settings, metric = settings_of(spec.early_stopping), spec.objective.objective_metric_name
    averages: list[float] = []
    with grpc.insecure_channel(request.db_manager_address) as curves:
        for trial in request.trials:
            if trial.status.condition == SUCCEEDED:
                asked = message("GetObservationLogRequest")(trial_name=trial.name, metric_name=metric)
                log = call(curves, "DBManager", "GetObservationLog", asked, 10).observation_log.metric_logs
                averages.append(mean(float(entry.metric.value) for entry in log[: settings["start_step"]]))
    reply = message("GetEarlyStoppingRulesReply")()
    if len(averages) >= settings["min_trials_required"]:
        comparison = "GREATER" if spec.objective.type == number("ObjectiveType", "MINIMIZE") else "LESS"
        reply.early_stopping_rules.add(
            name=metric,
            value=str(median(averages)),
            comparison=number("ComparisonType", comparison),
            start_step=settings["start_step"],
        )
    return reply


def main(port: str = "0", until: str = "standard input ends") -> None:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        methods = {"ValidateEarlyStoppingSettings": validated, "GetEarlyStoppingRules": rules}
        server.add_generic_rpc_handlers([handlers("EarlyStopping", methods)])
        print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
        server.start()
        if until == "for ever":
            server.wait_for_termination()
        sys.stdin.read()
        server.stop(None).wait()


main(*sys.argv[1:])
