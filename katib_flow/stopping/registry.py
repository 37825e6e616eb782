"""The registry of early-stopping rules. A rule is a pure function of a ``Running`` trial, in a file of its own."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from katib_flow.errors import SpecError
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.outside.service import lists
from katib_flow.plugins import Registry, Settings
from katib_flow.spec.experiment import Experiment
from katib_flow.stopping.curve import Curve
from katib_flow.stopping.service import reason_of_rules, rules_of

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Running(Generic[S]):
    """A request to a rule: should this running trial end now?

    Attributes:
        curve: the trial's reported values of the first objective; never empty.
    """

    experiment: Experiment
    history: History
    trial: Trial
    curve: Curve
    settings: S

    def ended(self) -> list[Curve]:
        """The curves of the other trials that have succeeded or were stopped early."""
        return self._curves((State.SUCCEEDED, State.EARLY_STOPPED))

    def others(self) -> list[Curve]:
        """The curves of the other trials that are running, have succeeded or were stopped early."""
        return self._curves((State.RUNNING, State.SUCCEEDED, State.EARLY_STOPPED))

    def _curves(self, states: Sequence[State]) -> list[Curve]:
        objective = self.experiment.objective[0]
        others = [trial for trial in self.history if trial.state in states and trial.id != self.trial.id]
        return [curve for trial in others if len(curve := Curve.from_trial(trial, objective))]

    def shown(self, loss: float) -> str:
        """A loss as a value of the objective's metric, rounded for messages."""
        objective = self.experiment.objective[0]
        return f"{objective.loss(loss):.4g}"  # the change of sign is its own inverse


Judge = Callable[[Running[Any]], str]


@dataclass(frozen=True)
class Rule:
    """A registered rule.

    Attributes:
        judge: returns the reason why a trial should end; "" if it should not.
        summary: the first line of the rule's file.
    """

    name: str
    judge: Judge
    settings: type[Settings]
    aliases: tuple[str, ...] = ()
    summary: str = ""


_registry = Registry[Rule]("an early-stopping rule", "katib_flow.stopping", ("katib_flow.stopping",))


def stopping_rule(
    name: str, *, settings: type[Settings] = Settings, aliases: Sequence[str] = ()
) -> Callable[[Judge], Judge]:
    """Register a function as an early-stopping rule.

    The function returns the reason why the trial should end, as a clause for people; "" if it should not.
    """

    def register(judge: Judge) -> Judge:
        doc = importlib.import_module(judge.__module__).__doc__ or judge.__doc__ or ""
        _registry.add(Rule(name, judge, settings, tuple(aliases), doc.strip().split("\n")[0]), *aliases)
        return judge

    return register


def registered_rules() -> Mapping[str, Rule]:
    """All rules by name, without aliases, in alphabetical order."""
    return _registry.all()


def find_rule(name: str) -> Rule | None:
    """The rule with a name or alias; None if it is unknown."""
    return _registry.find(name)


def check_stopping(experiment: Experiment) -> Iterator[SpecError]:
    """Errors in the name of the rule or in its settings."""
    spec = experiment.early_stopping
    if spec is not None and spec.service is not None:
        yield from lists("early_stopping", spec.settings)
    elif spec is not None:
        yield from _registry.check("early_stopping", spec.name, spec.settings)


def rule_of(experiment: Experiment) -> Rule | None:
    """The rule that judges the trials of an experiment; None without one, or if a service gives the rules."""
    spec = experiment.early_stopping
    return None if spec is None or spec.service is not None else find_rule(spec.name)


def judged_metrics(experiment: Experiment, suggestion: Suggestion) -> set[str]:
    """The metrics of a trial whose series ``reason_to_stop`` needs; empty without early stopping."""
    if experiment.early_stopping is None:
        return set()
    return {experiment.objective[0].metric, *(rule.metric for rule in rules_of(suggestion))}


def reason_to_stop(experiment: Experiment, history: History, trial: Trial) -> str:
    """The reason why a running trial should end now; "" if it should not, or if there is no rule.

    Args:
        history: the history, with the series of the first objective.
        trial: the trial, with its series of ``judged_metrics`` so far; the history may hold an older state of it.
    """
    spec, rule = experiment.early_stopping, rule_of(experiment)
    if spec is not None and spec.service is not None:
        return reason_of_rules(experiment, trial)
    if spec is None or rule is None:
        return ""
    curve = Curve.from_trial(trial, experiment.objective[0])
    if not len(curve):
        return ""
    return rule.judge(Running(experiment, history, trial, curve, rule.settings.model_validate(spec.settings)))
