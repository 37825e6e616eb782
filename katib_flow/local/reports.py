"""The metrics of a trial that the user's program evaluates: checked, numbered by step, reduced to observations."""

from collections.abc import Mapping
from typing import Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Metric
from katib_flow.metrics.strategy import Reduction, observations, reductions
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.user import plain

LARGEST_STEP = 2**63 - 1  # the largest integer that a database holds


class Reports:
    """All metrics that one trial has reported."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._steps: dict[str, int] = {}
        self._reduced: dict[str, Reduction] = {}

    def take(self, trial: str, values: Mapping[str, Any], step: int | None) -> list[Metric]:
        """Take a report, and return its metrics.

        Args:
            trial: the id of the trial, for errors.
            step: None for one more than the last step of each metric.

        Raises:
            InvalidSpec: with every value that is not a number; no part of the report is taken.
        """
        numbers = self._numbers(trial, values)
        if step is not None and (type(step) is not int or abs(step) > LARGEST_STEP):
            raise InvalidSpec("report", [SpecError(f"{trial}.step", step, "a whole number")])
        at = now_ms()
        metrics: list[Metric] = []
        for name, value in numbers.items():
            self._steps[name] = min(self._steps.get(name, -1) + 1, LARGEST_STEP) if step is None else step
            metrics.append(Metric(name, value, self._steps[name], at))
        reductions(metrics, self._reduced)
        return metrics

    def check_complete(self, trial: str, values: Mapping[str, Any]) -> None:
        """Check that every objective has a value, in earlier reports or in ``values``.

        Raises:
            InvalidSpec: an objective has no value.
        """
        numbers = self._numbers(trial, values)
        known = {*self._reduced, *(name for name, value in numbers.items() if not isinstance(value, tuple))}
        missing = [objective.metric for objective in self._experiment.objective if objective.metric not in known]
        if missing:
            need = f"a value for {' and '.join(map(repr, missing))}, or error=... if the trial failed"
            raise InvalidSpec("tell", [SpecError(trial, sorted(known), need)])

    @property
    def observations(self) -> dict[str, float]:
        """The value of each metric, reduced by the strategies of the spec."""
        return observations(self._reduced, self._experiment.metrics.strategy)

    def _numbers(self, trial: str, values: Mapping[str, Any]) -> dict[str, float | tuple[float, ...]]:
        """The values as numbers and vectors; a vector of length one is a number if the spec names the metric."""
        numbers: dict[str, float | tuple[float, ...]] = {}
        wrong: list[SpecError] = []
        for name, value in values.items():
            try:
                number = plain(value)
            except TypeError:
                wrong.append(SpecError(f"{trial}.{name}", value, "a number, or a vector of numbers"))
                continue
            if isinstance(number, list):
                named = len(number) == 1 and name in self._experiment.metric_names
                number = number[0] if named else tuple(number)
            if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] - users err
                wrong.append(SpecError(trial, name, "the name of a metric"))
            numbers[name] = number
        if wrong:
            raise InvalidSpec("report", wrong)
        return numbers
