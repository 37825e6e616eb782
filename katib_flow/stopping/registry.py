"""How a rule is written, registered and asked: a pure function of a ``Running`` trial, in a file of its own."""

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
    """What a rule is asked: should this trial, which is running, end now?

    Attributes:
        curve: what the trial has reported of the first objective; never empty.
    """

    experiment: Experiment
    history: History
    trial: Trial
    curve: Curve
    settings: S

    def ended(self) -> list[Curve]:
        """The curves of the trials that have ended with a result, those that were stopped early among them."""
        return self._curves((State.SUCCEEDED, State.EARLY_STOPPED))

    def others(self) -> list[Curve]:
        """The same, and those of the other trials that are running."""
        return self._curves((State.RUNNING, State.SUCCEEDED, State.EARLY_STOPPED))

    def _curves(self, states: Sequence[State]) -> list[Curve]:
        objective = self.experiment.objective[0]
        others = [trial for trial in self.history if trial.state in states and trial.id != self.trial.id]
        return [curve for trial in others if len(curve := Curve.of(trial, objective))]

    def shown(self, loss: float) -> str:
        """A loss as the metric it was, for a person."""
        objective = self.experiment.objective[0]
        return f"{objective.loss(loss):.4g}"  # the change of sign is its own inverse


Judge = Callable[[Running[Any]], str]


@dataclass(frozen=True)
class Rule:
    """A registered rule."""

    name: str
    judge: Judge
    settings: type[Settings]
    aliases: tuple[str, ...] = ()
    summary: str = ""


_registry = Registry[Rule]("a rule of early stopping", "katib_flow.stopping", ("katib_flow.stopping",))


def stopping_rule(
    name: str, *, settings: type[Settings] = Settings, aliases: Sequence[str] = ()
) -> Callable[[Judge], Judge]:
    """Register a function as a rule of early stopping.

    The function answers with the reason why the trial should end, for a person; "" lets it run.
    """

    def register(judge: Judge) -> Judge:
        doc = importlib.import_module(judge.__module__).__doc__ or judge.__doc__ or ""
        _registry.add(Rule(name, judge, settings, tuple(aliases), doc.strip().split("\n")[0]), *aliases)
        return judge

    return register


def registered_rules() -> Mapping[str, Rule]:
    """Every rule under its own name, in the order of the alphabet."""
    return _registry.all()


def find_rule(name: str) -> Rule | None:
    """The rule of a name or alias."""
    return _registry.find(name)


def check_stopping(experiment: Experiment) -> Iterator[SpecError]:
    """What is wrong with the name of the rule, or its settings."""
    spec = experiment.early_stopping
    if spec is not None and spec.service is not None:
        yield from lists("early_stopping", spec.settings)
    elif spec is not None:
        yield from _registry.check("early_stopping", spec.name, spec.settings)


def rule_of(experiment: Experiment) -> Rule | None:
    """The rule that judges the trials of an experiment; None where there is none, or a service gives the rules."""
    spec = experiment.early_stopping
    return None if spec is None or spec.service is not None else find_rule(spec.name)


def judged_metrics(experiment: Experiment, suggestion: Suggestion) -> set[str]:
    """The metrics whose series ``reason_to_stop`` looks at, of a trial; none where there is no early stopping."""
    if experiment.early_stopping is None:
        return set()
    return {experiment.objective[0].metric, *(rule.metric for rule in rules_of(suggestion))}


def reason_to_stop(experiment: Experiment, history: History, trial: Trial) -> str:
    """Why a running trial should end now; "" where it should not, or there is no rule.

    Args:
        history: with the series of the first objective.
        trial: with its own series so far, of ``judged_metrics``; the history may hold an older state of it.
    """
    spec, rule = experiment.early_stopping, rule_of(experiment)
    if spec is not None and spec.service is not None:
        return reason_of_rules(experiment, trial)
    if spec is None or rule is None:
        return ""
    curve = Curve.of(trial, experiment.objective[0])
    if not len(curve):
        return ""
    return rule.judge(Running(experiment, history, trial, curve, rule.settings.model_validate(spec.settings)))
