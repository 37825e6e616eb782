"""Notes on settings of a valid spec that have no effect, or less than expected: for validate, compile, submit and run.

``without_effect`` looks at the spec alone; ``out_of_space`` looks at the trials that an experiment would start from.
Both return notes, which ``tell`` prints.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from katib_flow.algorithms.registry import check_installed, find_algorithm
from katib_flow.algorithms.rungs import hyperband_brackets, ladder
from katib_flow.history import Trial
from katib_flow.metrics.katib import NAMESPACE_FILE
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import Note
from katib_flow.spec.sections import Budget
from katib_flow.spec.template import placeholders
from katib_flow.stopping.registry import rule_of
from katib_flow.wording import counted

_READ_BY = {  # keys of metrics -> the sources that use them
    "path": ("file", "tensorboard", "prometheus", "custom"),
    "port": ("prometheus", "katib", "custom"),
    "filter": ("stdout", "file"),
    "format": ("stdout", "file"),
}


_OPERATORS = ("&&", "||", "|", "&", ">", ">>", "<", "2>&1")


def tell(notes: Iterable[Note]) -> None:
    """Print notes to stderr, so that stdout stays readable for programs."""
    for note in notes:
        print(f"note: {note.where}: {note.text}", file=sys.stderr, flush=True)


def without_effect(experiment: Experiment) -> list[Note]:
    """Notes on settings without effect; the algorithm of the experiment must not be auto."""
    rules = (_brackets, _budget, _warm_start, _initial, _parameters, _shell, _early_stopping, _metrics, _tracking)
    return [note for rule in rules for note in rule(experiment)]


def _brackets(experiment: Experiment) -> Iterator[Note]:
    """Successive halving that ``max_trials`` cuts short."""
    most, budget = experiment.limits.max_trials, experiment.budget
    if most is None or budget is None:
        return
    entry = find_algorithm(experiment.algorithm.registered_name)
    first, total = _needed(experiment, budget)
    full = f"before any trial has the full budget ({budget.parameter} = {budget.max})"
    if most < total:
        early = f", and {full}" if most < first else ""
        text = f"the search ends after {counted(most, 'trial')}, but all brackets need {counted(total, 'trial')}{early}"
        yield Note("limits.max_trials", text)
    elif entry is not None and most < first:
        text = f"the search ends after {counted(most, 'trial')}, {full}; {entry.name} needs {counted(first, 'trial')}"
        yield Note("limits.max_trials", text)


def _needed(experiment: Experiment, budget: Budget) -> tuple[int, int]:
    """The number of trials up to the first that can have the full budget, and the number in all brackets.

    Each is 0 if the algorithm has no such number.
    """
    name, entry = experiment.algorithm.name, find_algorithm(experiment.algorithm.registered_name)
    if name in ("hyperband", "bohb"):
        brackets = [sum(rung.size for rung in rungs) for rungs in hyperband_brackets(budget)]
        rounds = int(experiment.algorithm.settings.get("rounds", 1))
        return brackets[0], sum(brackets) * rounds if name == "hyperband" else 0
    if name == "asha":
        return sum(budget.eta**level for level in range(len(ladder(budget)))), 0
    if name == "mobster" and entry is not None and len(ladder(budget)) > 1 and not experiment.warm_start:
        settings: Any = entry.settings_of(experiment)
        return settings.startup + 1, 0  # those before there is a model have the lowest budget
    return 0, 0


def _budget(experiment: Experiment) -> Iterator[Note]:
    entry = find_algorithm(experiment.algorithm.registered_name)
    if experiment.budget is not None and entry is not None and not entry.budget:
        what = f"so {experiment.budget.parameter} has no value, and arguments that name it are left out"
        yield Note("budget", f"{entry.name} sets no budgets, {what}; hyperband, asha, bohb, mobster and pbt set them")


def _warm_start(experiment: Experiment) -> Iterator[Note]:
    entry = find_algorithm(experiment.algorithm.registered_name)
    if experiment.warm_start and entry is not None and not entry.earlier:
        yield Note("warm_start", f"{experiment.algorithm.name} does not use the trials of earlier experiments")


def _initial(experiment: Experiment) -> Iterator[Note]:
    most, count = experiment.limits.max_trials, len(experiment.initial)
    if most is not None and count > most:
        text = f"{count - most} of {counted(count, 'point')} will not be tried, because limits.max_trials is {most}"
        yield Note("initial", text)


def _parameters(experiment: Experiment) -> Iterator[Note]:
    """Parameters and constants that no argument of a program contains; parents of other parameters are left out."""
    if experiment.trial.kind == "function":
        return  # a function must take all of them
    used = {name for _, name in placeholders(experiment.trial)}
    if "trial.file" in used:
        return
    budget = [experiment.budget.parameter] if experiment.budget else []
    parents = {parent for parameter in experiment.parameters.values() for parent in parameter.when}
    unused = [name for name in [*experiment.parameters, *budget] if name not in used and name not in parents]
    how = "it has an effect only if the program reads the file named by KATIB_FLOW_TRIAL_FILE"
    for name in unused:
        where = "budget.parameter" if name in budget else f"parameters.{name}"
        yield Note(where, f"no argument contains ${{{name}}}; {how}")
    for name in experiment.trial.arguments:
        if name not in used:
            yield Note(f"trial.arguments.{name}", f"no argument contains ${{{name}}}; {how}")


def _shell(experiment: Experiment) -> Iterator[Note]:
    """Shell operators in a command that no shell interprets."""
    for position, argument in enumerate(experiment.trial.command or ()):
        if argument in _OPERATORS:
            text = (
                f"no shell interprets this: the program gets {argument!r} as an argument; [sh, -c, 'LINE'] runs a shell"
            )
            yield Note(f"trial.command[{position}]", text)


def _early_stopping(experiment: Experiment) -> Iterator[Note]:
    spec, most = experiment.early_stopping, experiment.limits.max_trials
    rule = rule_of(experiment)
    if spec is None or rule is None or most is None:
        return
    needed = getattr(rule.settings.model_validate(spec.settings), "min_trials", 0)
    if needed >= most:
        others = counted(needed, "other")
        text = f"{rule.name} stops a trial only after {others} have ended, but limits.max_trials is {most}"
        yield Note("early_stopping", text)


def _metrics(experiment: Experiment) -> Iterator[Note]:
    metrics = experiment.metrics
    for key, sources in _READ_BY.items():
        if key in metrics.model_fields_set and metrics.source not in sources and getattr(metrics, key):
            yield Note(f"metrics.{key}", f"it is not used, because metrics.source is {metrics.source}")


def _tracking(experiment: Experiment) -> Iterator[Note]:
    if experiment.tracking.register_model and experiment.architecture is None:
        yield Note("tracking.register_model", "only networks of an architecture search are registered")


def on_this_machine(experiment: Experiment) -> list[Note]:
    """Notes on settings that work in a pod, but not on this machine."""
    if experiment.metrics.source != "katib" or Path(NAMESPACE_FILE).exists():
        return []
    why = f"it needs {NAMESPACE_FILE} and an address that exist only in pods"
    what = "call Katib's API at $KATIB_DB_MANAGER_ADDRESS, or kf.report"
    return [Note("metrics.source", f"report_metrics of Katib's SDK fails on this machine, because {why}; {what}")]


def on_a_cluster(experiment: Experiment) -> list[Note]:
    """Notes on settings without effect on a cluster."""
    notes: list[Note] = []
    if experiment.tracking.register_model:
        how = f"run `katib-flow register {experiment.name}` afterwards, where PyTorch is installed"
        notes.append(Note("tracking.register_model", f"a Workflow does not register models; {how}"))
    if experiment.metrics.container is not None and experiment.trial.kind in ("function", "command"):
        text = f"it is not used, because metrics.command reads the metrics of a {experiment.trial.kind} trial"
        notes.append(Note("metrics.container", text))
    return notes


def not_installed(experiment: Experiment) -> list[Note]:
    """Notes on packages that the algorithm needs and that are not installed here; on a cluster, they do not matter."""
    return [Note(problem.where, f"{problem.found} needs {problem.need}") for problem in check_installed(experiment)]


def out_of_space(experiment: Experiment, name: str, trials: Sequence[Trial]) -> list[Note]:
    """A note on the number of trials of an earlier experiment that fit the search space; empty if all of them fit.

    Args:
        name: name of the earlier experiment.
        trials: its trials.
    """
    ended = [trial for trial in trials if trial.state.over]
    space = search_space(experiment)
    outside = [trial for trial in ended if trial.assignment not in space]
    if ended and not outside:
        return []
    summary = f"{len(ended) - len(outside)} of {counted(len(ended), 'trial')} of {name} lie in this space"
    reasons = Counter(f"{name} {why}" for trial in outside for name, why in space.why_not(trial.assignment))
    details = "; ".join(f"{reason} ({counted(count, 'trial')})" for reason, count in reasons.most_common(5))
    return [Note("warm_start", summary + (f": {details}" if details else ""))]


def reported_once(experiment: Experiment, reports: int) -> list[Note]:
    """A note on a trial that succeeded with too few reports for early stopping; empty if it has enough.

    Args:
        reports: number of values of the first objective that the trial has reported.
    """
    spec, rule = experiment.early_stopping, rule_of(experiment)
    if spec is None or rule is None:
        return []
    needed = max(2, getattr(rule.settings.model_validate(spec.settings), "start_step", 1))
    if reports >= needed:
        return []
    metric = experiment.objective[0].metric
    times = counted(reports, "time")
    text = f"a trial reported {metric} {times}, but {rule.name} needs {needed} reports before it can stop a trial"
    return [Note("early_stopping", text)]
