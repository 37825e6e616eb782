"""The search of another tuner as data of a spec, and the trials of it that lie in the search space. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katib_flow.history import Kind, Metric, Origin, State, Suggestion, Trial, Value
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import Note
from katib_flow.spec.parameters import FloatParameter
from katib_flow.spec.space import SearchSpace

Fields = dict[str, Any]
"""A parameter, or another part of a spec, as plain data."""


@dataclass(frozen=True)
class Past:
    """A trial that another tuner has run.

    Attributes:
        label: its name or number in the other tuner.
        assignment: the values of its parameters, without those that were not set.
        observations: the value that counts, for each objective and other metric.
        metrics: all reported values, with steps.
        started, ended: seconds since the epoch; None if unknown.
    """

    label: str
    assignment: Mapping[str, Any]
    state: State
    observations: Mapping[str, float]
    metrics: tuple[Metric, ...] = ()
    message: str = ""
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Study:
    """The search of another tuner.

    Attributes:
        name: its name in the other tuner.
        tuner: the name of the tuner, such as "Optuna".
        objectives: (metric, direction) pairs.
        parameters: the search space as data of a spec.
        trials: the trials that have ended, in order.
        others: further metrics that trials report.
        constants: arguments with the same value in every trial.
        left_out: the number of trials that are not in ``trials``, by reason.
        notes: remarks for people on parts of the spec.
    """

    name: str
    tuner: str
    objectives: tuple[tuple[str, str], ...]
    parameters: Mapping[str, Fields]
    trials: Sequence[Past]
    others: tuple[str, ...] = ()
    constants: Mapping[str, Value] = field(default_factory=dict[str, Value])
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    notes: Sequence[Note] = ()

    @property
    def experiment_name(self) -> str:
        """A valid name for the recorded experiment."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower())[:40].strip("-")
        return plain or self.tuner.lower()

    def sections(self) -> Fields:
        """The sections that the recorded experiment shares with one that learns from it, as data of a spec."""
        objectives = [{"metric": metric, "direction": direction} for metric, direction in self.objectives]
        data: Fields = {"objective": objectives[0] if len(objectives) == 1 else objectives}
        if self.others:
            data["additional_metrics"] = list(self.others)
        return data | {"parameters": {name: dict(fields) for name, fields in self.parameters.items()}}

    def spec(self) -> Fields:
        """Data of a spec that searches the same space and learns from the recorded experiment."""
        arguments = {"arguments": dict(self.constants)} if self.constants else {}
        words = ["python", "train.py", *(f"--{name}=${{{name}}}" for name in (*self.parameters, *self.constants))]
        return {
            "name": f"{self.experiment_name}-next",
            **self.sections(),
            "warm_start": self.experiment_name,
            "limits": {"max_trials": 20, "parallel_trials": 2},
            "trial": {"command": words, **arguments},
        }


def fitting(study: Study, experiment: Experiment) -> tuple[list[tuple[Trial, tuple[Metric, ...]]], Counter[str]]:
    """Select the trials of a study that lie in its search space.

    Args:
        experiment: an experiment with the study's own sections.

    Returns:
        The trials with their reported metrics, and the number of other trials, by reason.
    """
    space = SearchSpace(experiment.parameters)
    fits: list[tuple[Trial, tuple[Metric, ...]]] = []
    reasons = Counter(study.left_out)
    for past in study.trials:
        assignment = {name: _typed(space, name, value) for name, value in past.assignment.items()}
        wrong = [f"{name} {why}" for name, why in space.why_not(assignment)]
        if wrong:
            reasons[wrong[0]] += 1
            continue
        info = {study.tuner.lower(): past.label}
        suggestion = Suggestion(len(fits), assignment, info=info, origin=Origin(Kind.GIVEN))
        ended = past.ended or past.started
        observations = dict(past.observations)
        trial = Trial(suggestion, past.state, observations, message=past.message, started=past.started, ended=ended)
        fits.append((trial, past.metrics))
    return fits, reasons


def _typed(space: SearchSpace, name: str, value: Any) -> Any:
    parameter = space.parameters.get(name)
    if parameter is None or not isinstance(value, bool | int | float | str | None):
        return value
    typed = parameter.typed(value)
    return parameter.nearest(typed) if isinstance(parameter, FloatParameter) and type(typed) is float else typed


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """A valid and unique name in a spec for each name in the other tuner."""
    safe: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]", "_", name)
        plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
        number, unique = 2, plain
        while unique in safe.values():
            unique, number = f"{plain}_{number}", number + 1
        safe[name] = unique
    return safe


def renamed(safe: Mapping[str, str]) -> list[Note]:
    """Remarks on the names that had to change."""
    return [
        Note(f"parameters.{name}", f"called {old!r} before, which is not a valid name here")
        for old, name in safe.items()
        if old != name
    ]


def conditions(assignments: Sequence[Mapping[str, Any]], parameters: Mapping[str, Fields]) -> dict[str, Fields]:
    """Infer from trials the conditions of parameters that not every trial has, as data for ``when``.

    A condition is the set of values of one categorical parameter with which another parameter was set, if that was
    never set with any other value. A parameter without such a condition is left out.
    """
    often = Counter(name for assignment in assignments for name in assignment)
    return {
        name: {parent: values}
        for name in parameters
        if often[name] < len(assignments)
        for parent, values in list(_explanations(name, assignments, parameters, often))[:1]
    }


def _explanations(
    name: str, assignments: Sequence[Mapping[str, Any]], parameters: Mapping[str, Fields], often: Counter[str]
) -> Iterator[tuple[str, list[Value]]]:
    for parent, fields in parameters.items():
        if fields["type"] != "categorical" or often[parent] <= often[name]:
            continue
        having = [point for point in assignments if name in point]
        with_it = {_key(point[parent]) for point in having if parent in point}
        without = {_key(point[parent]) for point in assignments if name not in point and parent in point}
        if with_it and all(parent in point for point in having) and not with_it & without:
            yield parent, [value for value in fields["values"] if _key(value) in with_it]


def _key(value: Any) -> tuple[str, str]:
    return type(value).__name__, repr(value)
