"""The rules that hold between the sections of a spec."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spec.counting import active
from katib_flow.spec.parameters import Parameter
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.space import cycle
from katib_flow.spec.template import BUILTIN, placeholders, placeholders_in
from katib_flow.wording import did_you_mean

if TYPE_CHECKING:
    from katib_flow.spec.experiment import Experiment


_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ufeff]")  # cannot be part of a line that is read
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_NEED_NAME = "a name of letters, digits, '_', '-' and '.' that starts with a letter or '_'"
_LINE = re.compile(r"\S\s+(&&|\|\||[;|<>-])|\S(;|&&)\s+\S")  # a line that only a shell can split
_SAMPLE = re.compile(r"[a-zA-Z_:][\w:]*(\{.*\})?", re.ASCII)

Rule = Callable[["Experiment"], Iterable[SpecError]]


def broken(experiment: "Experiment", rules: Iterable[Rule]) -> Iterator[SpecError]:
    """Mistakes by some rules, each of them once, including the InvalidSpec that a rule may raise."""
    messages: set[str] = set()
    for rule in rules:
        for problem in _problems(rule, experiment):
            if str(problem) not in messages:
                messages.add(str(problem))
                yield problem


def broken_so_far(experiment: "Experiment", rules: Iterable[Rule]) -> Iterator[SpecError]:
    """Mistakes by some rules in an experiment without its invalid sections; a rule ends where it needs one of them."""
    return broken(experiment, map(_lenient, rules))


def _problems(rule: Rule, experiment: "Experiment") -> Iterator[SpecError]:
    try:
        yield from rule(experiment)
    except InvalidSpec as invalid:
        yield from invalid.problems


def _lenient(rule: Rule) -> Rule:
    def so_far(experiment: "Experiment") -> Iterator[SpecError]:
        with contextlib.suppress(AttributeError):
            yield from rule(experiment)

    return so_far


def _parameters(experiment: "Experiment") -> Iterator[SpecError]:
    if not experiment.parameters and experiment.architecture is None:
        yield SpecError("parameters", NOTHING, "at least one parameter, or an architecture to search")
    for name in experiment.parameters:
        if not _NAME.fullmatch(name):
            yield SpecError(f"parameters.{name}", name, _NEED_NAME)


def _conditions(experiment: "Experiment") -> Iterator[SpecError]:
    parameters = experiment.parameters
    for name, parameter in parameters.items():
        for parent, values in parameter.when.items():
            where = f"parameters.{name}.when.{parent}"
            others = [other for other in parameters if other != name]
            if parent not in others:
                yield SpecError(where, parent, f"the name of another parameter{did_you_mean(parent, others)}")
            elif parameters[parent].size is None:
                yield SpecError(where, parent, "a parent with countable values (a float needs a step)")
            else:
                need = f"a value of {parent}: {_listed(parameters[parent])}"
                strange = [value for value in values if not parameters[parent].contains(value)]
                yield from (SpecError(where, value, need) for value in strange)
    if names := cycle(parameters):
        yield SpecError("parameters", f"{' and '.join(names)} depending on each other", "conditions without cycles")


def _listed(parameter: Parameter, most: int = 8) -> str:
    first = ", ".join(map(repr, islice(parameter.values(), most)))
    return f"{first} ..." if (parameter.size or 0) > most else first


def _initial(experiment: "Experiment") -> Iterator[SpecError]:
    """Each point assigns values within bounds, and only to parameters that are active in it."""
    parameters = experiment.parameters
    for number, point in enumerate(experiment.initial):
        given = {name: parameters[name].typed(value) for name, value in point.items() if name in parameters}
        for name, value in point.items():
            where = f"initial[{number}].{name}"
            if name not in parameters:
                yield SpecError(where, name, f"the name of a parameter{did_you_mean(name, list(parameters))}")
            elif not parameters[name].contains(given[name]):
                yield SpecError(where, value, f"a value of {name}: {_range(parameters[name])}")
            elif not active(parameters[name], given):
                parents = [f"{parent} in {list(values)}" for parent, values in parameters[name].when.items()]
                yield SpecError(where, value, f"{' and '.join(parents)} in the same point, or no {name}")


def _range(parameter: Parameter) -> str:
    if parameter.size is not None:
        return _listed(parameter)
    low, high = (parameter.at(unit) for unit in (0.0, 1.0))
    return f"{low:g} to {high:g}"


def _budget(experiment: "Experiment") -> Iterator[SpecError]:
    budget = experiment.budget
    if budget and budget.parameter in experiment.parameters:
        need = "a name that is not in parameters, because the algorithm sets the budget"
        yield SpecError("budget.parameter", budget.parameter, need)


def _metrics(experiment: "Experiment") -> Iterator[SpecError]:
    names = experiment.metric_names
    for name in sorted({name for name in names if names.count(name) > 1}):
        where = "additional_metrics" if name in experiment.additional_metrics else "objective"
        yield SpecError(where, name, "each metric only once")
    for position, name in enumerate(names):
        where = "objective" if position < len(experiment.objective) else "additional_metrics"
        if need := _need_name(experiment, name):
            yield SpecError(where, name, need)
    for name in experiment.metrics.strategy:
        if name not in names:
            need = f"a metric of the objective or of additional_metrics{did_you_mean(name, names)}"
            yield SpecError(f"metrics.strategy.{name}", name, need)


def _need_name(experiment: "Experiment", name: str) -> str:
    """What the name of a metric must be, if no trial could report this one; "" if it could."""
    source, kind = experiment.metrics.source, experiment.trial.kind
    if source == "prometheus" and not _SAMPLE.fullmatch(name):
        return "a Prometheus name: letters, digits, '_' and ':', no digit first, perhaps with labels in braces"
    on_a_line = source in ("stdout", "file") and experiment.metrics.format == "text" and kind != "function"
    if on_a_line and (name != name.strip() or _CONTROL.search(name)):
        return "a name that fits on a line: no spaces at its ends, no line break, no other control character"
    if kind == "function" and name in ("step", "global_step"):
        return "another name, because this one is reserved for the step of the metrics"
    return ""


def _arguments(experiment: "Experiment") -> Iterator[SpecError]:
    """The name of a constant is valid, and nothing else has it."""
    budget = experiment.budget.parameter if experiment.budget else None
    for name in experiment.trial.arguments:
        where = f"trial.arguments.{name}"
        if not _NAME.fullmatch(name):
            yield SpecError(where, name, _NEED_NAME)
        elif name in experiment.parameters:
            yield SpecError(where, name, "a name that is not in parameters, because a constant is not searched")
        elif name == budget:
            need = "a name other than budget.parameter, because the algorithm sets the budget"
            yield SpecError(where, name, need)
        elif name in BUILTIN:
            yield SpecError(where, name, f"another name, because ${{{name}}} is built in")


def _placeholders(experiment: "Experiment") -> Iterator[SpecError]:
    budget = [experiment.budget.parameter] if experiment.budget else []
    known = [*experiment.parameters, *budget, *experiment.trial.arguments, *BUILTIN]
    metrics = experiment.metrics.model_dump(mode="json", include={"command", "container"})
    of_trial = ((f"trial.{where}", name) for where, name in placeholders(experiment.trial))
    for where, name in chain(of_trial, placeholders_in(metrics, "metrics")):
        if name not in known:
            need = f"one of {', '.join(known)}{did_you_mean(name, known)} (write $${{{name}}} for the literal text)"
            yield SpecError(where, f"${{{name}}}", need)


def _program(experiment: "Experiment") -> Iterator[SpecError]:
    """The name of the program is not a whole shell command."""
    program = (experiment.trial.command or ("",))[0]
    if _LINE.search(program):
        need = "the name of a program, with each argument as its own item; for a shell, write [sh, -c, 'LINE']"
        yield SpecError("trial.command[0]", program, need)


RULES = (_parameters, _conditions, _initial, _budget, _metrics, _arguments, _placeholders, _program)
