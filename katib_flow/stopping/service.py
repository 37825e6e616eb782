"""A service that speaks Katib's gRPC API says when trials should end: ``early_stopping.service``.

As in Katib, it is asked when trials are suggested, and gives rules that a trial carries with it: "accuracy is less
than 0.7 from the fourth report on". A trial ends when all of them have been met; a rule on the objective looks at the
best value so far. Departs from Katib's collector: that looks at the value of one report alone, number ``start_step``.
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
"""Key of ``Suggestion.info``: the rules that a trial carries."""


class CarriedRule(Model):
    """A trial may end once ``metric`` has met this."""

    metric: Text
    value: Real
    comparison: Literal["<", ">", "=="]
    start_step: int = Field(0, ge=0)

    def met(self, objective: Objective, reports: Sequence[Metric]) -> bool:
        """Whether one of the reports meets it, from number ``start_step`` on; of the objective, the best until then."""
        best_loss = math.inf
        values = [report.value for report in reports if not isinstance(report.value, tuple)]
        for count, value in enumerate(values, 1):
            loss = objective.loss(value)
            best_loss = loss if loss < best_loss else best_loss  # NaN is never good
            judged = objective.loss(best_loss) if self.metric == objective.metric else value  # it is its own inverse
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
    """Suggestions with the rules that the service gives for them; as they are where there is no service.

    Args:
        history: with the series of the first objective.

    Raises:
        KatibFlowError: the service cannot be asked, or its answer is unsound.
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
    """The rules that a suggestion carries; none where somebody has edited them in the store to what are none."""
    try:
        return _RULES.validate_python(suggestion.info.get(RULES, ()))
    except ValidationError:
        return []


def reason_of_rules(experiment: Experiment, trial: Trial) -> str:
    """Why a trial, with its series so far, should end; "" where it should not."""
    rules, objective = rules_of(trial.suggestion), experiment.objective[0]
    series: Mapping[str, Sequence[Metric]] = trial.series
    if not rules or not all(rule.met(objective, series.get(rule.metric, ())) for rule in rules):
        return ""
    assert experiment.early_stopping is not None
    met = "; ".join(map(str, rules))
    return f"it met what {experiment.early_stopping.name} ends trials for: {met}"
