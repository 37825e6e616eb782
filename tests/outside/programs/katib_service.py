"""A suggestion service of Katib's API: Halton's sequence, its digits in the base of the setting ``base`` and up.

It says where it listens, then serves until its standard input ends. It keeps nothing: every question has all trials.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from katib_flow.katib_api.calls import Refusal, handlers
from katib_flow.katib_api.messages import message, number

DOUBLE, INT = number("ParameterType", "DOUBLE"), number("ParameterType", "INT")
PRIMES = (2, 3, 5, 7, 11, 13)


def radical_inverse(index: int, base: int) -> float:
    value, weight = 0.0, 1.0
    while index > 0:
        weight /= base
        value += weight * (index % base)
        index //= base
    return value


def at(parameter: Any, unit: float) -> str:
    feasible = parameter.feasible_space
    if parameter.parameter_type == DOUBLE:
        return repr(float(feasible.min) + unit * (float(feasible.max) - float(feasible.min)))
    if parameter.parameter_type == INT:
        step = int(feasible.step or 1)
        return str(int(feasible.min) + step * int(unit * ((int(feasible.max) - int(feasible.min)) // step + 1)))
    return feasible.list[int(unit * len(feasible.list))]


def validated(request: Any) -> Any:
    for setting in request.experiment.spec.algorithm.algorithm_settings:
        if setting.name not in ("skip", "answered"):
            raise Refusal(f"unknown setting {setting.name}")
    return message("ValidateAlgorithmSettingsReply")()


def suggested(request: Any) -> Any:
    settings = {setting.name: setting.value for setting in request.experiment.spec.algorithm.algorithm_settings}
    first = request.total_request_number - request.current_request_number
    for trial in request.trials:
        if trial.name != f"katib-{trial.spec.labels['index']}":  # what it said before comes back
            raise Refusal(f"{trial.name}: found the label {trial.spec.labels['index']!r}")
    reply = message("GetSuggestionsReply")()
    for index in range(first, request.total_request_number):
        suggestion = reply.parameter_assignments.add(trial_name=f"katib-{index}")
        suggestion.labels["index"] = str(index)
        for parameter, base in zip(request.experiment.spec.parameter_specs.parameters, PRIMES, strict=False):
            unit = radical_inverse(index + 1 + int(settings.get("skip", "0")), base)
            suggestion.assignments.add(name=parameter.name, value=at(parameter, unit))
    reply.algorithm.algorithm_settings.add(name="answered", value=str(int(settings.get("answered", "0")) + 1))
    return reply


def main(port: str = "0", until: str = "standard input ends") -> None:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        methods = {"ValidateAlgorithmSettings": validated, "GetSuggestions": suggested}
        server.add_generic_rpc_handlers([handlers("Suggestion", methods)])
        print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
        server.start()
        if until == "for ever":
            server.wait_for_termination()
        sys.stdin.read()
        server.stop(None).wait()


main(*sys.argv[1:])
