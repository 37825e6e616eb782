"""What a trial reports that the user's program evaluates: checked, numbered by step, reduced to observations."""

from collections.abc import Mapping
from typing import Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.history import Metric
from katib_flow.metrics.strategy import Reduction, observations, reductions
from katib_flow.metrics.text import now_ms
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.user import plain

LARGEST_STEP = 2**63 - 1  # what a database keeps


class Reports:
    """All that one trial has reported."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._steps: dict[str, int] = {}
        self._reduced: dict[str, Reduction] = {}

    def take(self, trial: str, values: Mapping[str, Any], step: int | None) -> list[Metric]:
        """Take a report.

        Args:
            trial: its id, for errors.
            step: one after the last, of each metric, where it is None.

        Raises:
            InvalidSpec: with every value that is no number; nothing of the report is taken.
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
        """Make sure that every objective has a value, with a last report.

        Raises:
            InvalidSpec: one has none.
        """
        numbers = self._numbers(trial, values)
        known = {*self._reduced, *(name for name, value in numbers.items() if not isinstance(value, tuple))}
        missing = [each.metric for each in self._experiment.objective if each.metric not in known]
        if missing:
            need = f"a value of {' and '.join(map(repr, missing))}, or error= where there is none"
            raise InvalidSpec("tell", [SpecError(trial, sorted(known), need)])

    @property
    def observations(self) -> dict[str, float]:
        """The value of each metric, reduced as the spec says."""
        return observations(self._reduced, self._experiment.metrics.strategy)

    def _numbers(self, trial: str, values: Mapping[str, Any]) -> dict[str, float | tuple[float, ...]]:
        """The values as numbers and vectors; a vector of one is a number where the spec names the metric."""
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
