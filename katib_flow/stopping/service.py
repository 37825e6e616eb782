"""Early stopping by a service that implements Katib's gRPC API: ``early_stopping.service``.

As in Katib, the service is asked when trials are suggested, and returns rules that a trial carries with it, such as
"accuracy is less than 0.7 from the fourth report on". A trial ends when it has met all of its rules; a rule on the
objective applies to the best value so far. Departs from Katib's metrics collector, which compares only the value of
report number ``start_step``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from katib_flow.history import History, Metric, Suggestion, Trial
from katib_flow.outside import service as outside
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Model, Real, Text
from katib_flow.spec.sections import Objective

RULES = "stopping_rules"
"""The key of a trial's rules in ``Suggestion.info``."""


class CarriedRule(Model):
    """A condition on a metric; a trial ends when it has met all of its rules.

    Attributes:
        start_step: number of the first report that counts, from 1; 0 counts all.
    """

    metric: Text
    value: Real
    comparison: Literal["<", ">", "=="]
    start_step: int = Field(0, ge=0)

    def met(self, objective: Objective, reports: Sequence[Metric]) -> bool:
        """Whether a report from number ``start_step`` on meets the rule; for the objective, the best value up to it."""
        best_loss = math.inf
        values = [report.value for report in reports if not isinstance(report.value, tuple)]
        for count, value in enumerate(values, 1):
            loss = objective.loss(value)
            best_loss = loss if loss < best_loss else best_loss  # NaN is never good
            judged = (
                objective.loss(best_loss) if self.metric == objective.metric else value
            )  # loss() is its own inverse
            if count >= self.start_step and _compared(judged, self.comparison, self.value):
                return True
        return False

    def __str__(self) -> str:
        begin = f" from report {self.start_step} on" if self.start_step > 1 else ""
        return f"{self.metric} {self.comparison} {self.value:g}{begin}"


_RULES = TypeAdapter(list[CarriedRule])


def _compared(value: float, comparison: str, other: float) -> bool:
    return value < other if comparison == "<" else value > other if comparison == ">" else value == other


def with_rules(experiment: Experiment, history: History, suggestions: Sequence[Suggestion]) -> list[Suggestion]:
    """Add the rules of the early-stopping service to suggestions; without a service they stay unchanged.

    Args:
        history: the history, with the series of the first objective.

    Raises:
        KatibFlowError: the service cannot be reached, or its reply is invalid.
    """
    spec = experiment.early_stopping
    if spec is None or spec.service is None or not suggestions:
        return list(suggestions)
    rules = outside.asked(
        outside.EARLY_STOPPING, spec.service, spec.answer_seconds, lambda ask: _rules(experiment, history, ask)
    )
    return [replace(suggestion, info={**suggestion.info, RULES: rules}) for suggestion in suggestions]


def _rules(experiment: Experiment, history: History, ask: outside.Ask) -> list[dict[str, Any]]:
    from katib_flow.katib_api import early_stopping as api
    from katib_flow.spaces import search_space

    if not history:
        ask("ValidateEarlyStoppingSettings", api.settings_request(experiment))
    with api.curves_served(history) as curves:
        method = "GetEarlyStoppingRules"
        reply = ask(method, api.rules_request(experiment, search_space(experiment), history, curves))
    return api.rules_of(outside.required(outside.EARLY_STOPPING, method, reply))


def rules_of(suggestion: Suggestion) -> list[CarriedRule]:
    """The rules that a suggestion carries; empty if they are invalid, because somebody edited them in the store."""
    try:
        return _RULES.validate_python(suggestion.info.get(RULES, ()))
    except ValidationError:
        return []


def reason_of_rules(experiment: Experiment, trial: Trial) -> str:
    """The reason why a trial, with its series so far, should end; "" if it should not."""
    rules, objective = rules_of(trial.suggestion), experiment.objective[0]
    series: Mapping[str, Sequence[Metric]] = trial.series
    if not rules or not all(rule.met(objective, series.get(rule.metric, ())) for rule in rules):
        return ""
    assert experiment.early_stopping is not None
    met = "; ".join(map(str, rules))
    return f"it met the stopping rules of {experiment.early_stopping.name}: {met}"
