"""Convert experiments and trials to messages of Katib's API, and suggestions back. Pure.

Katib's API has no conditions, no multiple objectives, and no values other than text; ``inexpressible`` lists what it
cannot express of an experiment.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import State, Trial, Value
from katib_flow.katib_api.messages import message, number
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, OrdinalParameter, Parameter
from katib_flow.spec.sections import EarlyStopping
from katib_flow.spec.space import SearchSpace

_DISTRIBUTIONS = {"linear": "UNIFORM", "log": "LOG_UNIFORM", "normal": "NORMAL", "lognormal": "LOG_NORMAL"}
_CONDITIONS = {
    State.PENDING: "CREATED",
    State.RUNNING: "RUNNING",
    State.SUCCEEDED: "SUCCEEDED",
    State.KILLED: "KILLED",
    State.FAILED: "FAILED",
    State.METRICS_UNAVAILABLE: "METRICSUNAVAILABLE",
    State.EARLY_STOPPED: "EARLYSTOPPED",
}
NAME, LABELS = "katib_trial", "katib_labels"
"""Keys of ``Suggestion.info``: the name and labels that a service has assigned to a trial, and expects to get back."""


def inexpressible(experiment: Experiment, space: SearchSpace) -> Iterator[SpecError]:
    """The parts of an experiment that Katib's API cannot express."""
    for name, parameter in space.parameters.items():
        where = f"parameters.{name}"
        if parameter.when:
            yield SpecError(f"{where}.when", "a condition", "no condition, because Katib's API has no conditions")
        if isinstance(parameter, FloatParameter | IntParameter) and parameter.scale not in _DISTRIBUTIONS:
            need = f"one of {', '.join(_DISTRIBUTIONS)}, because Katib's API has no other scales"
            yield SpecError(f"{where}.scale", parameter.scale, need)
        values = list(parameter.values()) if isinstance(parameter, CategoricalParameter | OrdinalParameter) else []
        texts = [text_of(value) for value in values]
        if same := next((text for text in texts if texts.count(text) > 1), None):
            need = "values that differ as text, because Katib's API has no other values"
            yield SpecError(f"{where}.values", f"two values that are {same!r} as text", need)


def text_of(value: Value) -> str:
    """A value as Katib writes it: text unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def experiment_message(experiment: Experiment, space: SearchSpace, settings: Mapping[str, Value]) -> Any:
    """An ``Experiment`` message.

    Args:
        settings: settings of the algorithm, instead of those in the spec, because a service may have changed them.
    """
    proto = message("Experiment")(name=experiment.name)
    for name, parameter in space.parameters.items():
        proto.spec.parameter_specs.parameters.append(_parameter(name, parameter))
    proto.spec.objective.CopyFrom(_objective(experiment))
    proto.spec.algorithm.algorithm_name = experiment.algorithm.name
    for name, value in settings.items():
        proto.spec.algorithm.algorithm_settings.add(name=name, value=text_of(value))
    if experiment.early_stopping is not None:
        proto.spec.early_stopping.CopyFrom(early_stopping_message(experiment.early_stopping))
    proto.spec.parallel_trial_count = experiment.limits.parallel_trials
    proto.spec.max_trial_count = experiment.limits.max_trials or 0
    return proto


def early_stopping_message(spec: EarlyStopping) -> Any:
    """An ``EarlyStoppingSpec`` message, with settings as text."""
    proto = message("EarlyStoppingSpec")(algorithm_name=spec.name)
    for name, value in spec.settings.items():
        proto.algorithm_settings.add(name=name, value=text_of(value))
    return proto


def _objective(experiment: Experiment) -> Any:
    objective = experiment.objective[0]
    kind = "MINIMIZE" if objective.direction == "minimize" else "MAXIMIZE"
    return message("ObjectiveSpec")(
        type=number("ObjectiveType", kind),
        goal=objective.goal or 0.0,
        objective_metric_name=objective.metric,
        additional_metric_names=list(experiment.additional_metrics),
    )


def _parameter(name: str, parameter: Parameter) -> Any:
    proto = message("ParameterSpec")(name=name)
    feasible = proto.feasible_space
    if isinstance(parameter, FloatParameter | IntParameter):
        proto.parameter_type = number("ParameterType", "DOUBLE" if isinstance(parameter, FloatParameter) else "INT")
        feasible.min, feasible.max = text_of(parameter.min), text_of(parameter.max)
        feasible.step = "" if parameter.step in (None, 1) and isinstance(parameter, IntParameter) else _step(parameter)
        feasible.distribution = number("Distribution", _DISTRIBUTIONS.get(parameter.scale, "DISTRIBUTION_UNSPECIFIED"))
        return proto
    values = list(parameter.values())
    discrete = isinstance(parameter, OrdinalParameter) and all(type(value) in (int, float) for value in values)
    proto.parameter_type = number("ParameterType", "DISCRETE" if discrete else "CATEGORICAL")
    feasible.list.extend(text_of(value) for value in values)
    return proto


def _step(parameter: FloatParameter | IntParameter) -> str:
    return "" if parameter.step is None else text_of(parameter.step)


def trial_message(experiment: Experiment, trial: Trial) -> Any:
    """A ``Trial`` message, with the observations that are finite."""
    info = trial.suggestion.info
    proto = message("Trial")(name=str(info.get(NAME) or trial.id))
    proto.spec.objective.CopyFrom(_objective(experiment))
    for name, value in trial.assignment.items():
        proto.spec.parameter_assignments.assignments.add(name=name, value=text_of(value))
    labels = info.get(LABELS)
    if isinstance(labels, Mapping):
        proto.spec.labels.update({str(name): str(value) for name, value in labels.items()})  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    proto.status.start_time, proto.status.completion_time = _time(trial.started), _time(trial.ended)
    proto.status.condition = number("TrialStatus.TrialConditionType", _CONDITIONS[trial.state])
    for name in trial.observations:
        if (value := trial.observed(name)) is not None:
            proto.status.observation.metrics.add(name=name, value=repr(value))
    return proto


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def assignment_of(assignments: Sequence[Any], space: SearchSpace) -> dict[str, Value]:
    """Convert the assignments of a service to values of the parameters' types.

    Raises:
        KatibFlowError: a parameter is assigned twice.
    """
    assignment: dict[str, Value] = {}
    for assigned in assignments:
        if assigned.name in assignment:
            raise KatibFlowError(f"assigned {assigned.name} twice in one suggestion")
        parameter = space.parameters.get(assigned.name)
        assignment[assigned.name] = assigned.value if parameter is None else value_of(parameter, assigned.value)
    return assignment


def value_of(parameter: Parameter, text: str) -> Value:
    """Convert a text to a value of the parameter; a text that represents none of its values is returned unchanged."""
    if isinstance(parameter, CategoricalParameter | OrdinalParameter):
        values = {text_of(value): value for value in parameter.values()}
        if text in values:
            return values[text]
        numbers = {float(value): value for value in values.values() if type(value) in (int, float)}  # type: ignore[arg-type]
        return numbers.get(_float(text), text)
    value = _float(text)
    if isinstance(parameter, IntParameter):
        return int(value) if value.is_integer() else text
    if isinstance(parameter, FloatParameter):
        return parameter.nearest(value) if abs(value) < float("inf") else text
    return text


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
