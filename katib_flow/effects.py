"""Settings of a good spec that would do nothing, or less than they say: told by ``validate``, ``compile`` and ``run``.

``without_effect`` judges the spec alone; ``out_of_space`` judges the trials that an experiment would start from. Both
give notes, which ``tell`` prints.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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

_READ_BY = {  # keys of metrics -> the sources that look at them
    "path": ("file", "tensorboard", "prometheus", "custom"),
    "port": ("prometheus", "katib", "custom"),
    "filter": ("stdout", "file"),
    "format": ("stdout", "file"),
}


_OPERATORS = ("&&", "||", "|", "&", ">", ">>", "<", "2>&1")


def tell(notes: Iterable[Note]) -> None:
    """Print notes where they disturb no output that a program reads."""
    for note in notes:
        print(f"note: {note.where}: {note.text}", file=sys.stderr, flush=True)


def without_effect(experiment: Experiment) -> list[Note]:
    """What a spec states without effect, its algorithm settled."""
    rules = (_brackets, _budget, _warm_start, _initial, _parameters, _shell, _early_stopping, _metrics, _tracking)
    return [note for rule in rules for note in rule(experiment)]


def _brackets(experiment: Experiment) -> Iterator[Note]:
    """Halving that ``max_trials`` cuts off."""
    most, budget = experiment.limits.max_trials, experiment.budget
    if most is None or budget is None:
        return
    entry = find_algorithm(experiment.algorithm.registered_name)
    first, total = _needed(experiment, budget)
    whole = f"any trial has the whole budget, {budget.parameter} {budget.max}"
    if most < total:
        early = f", and before {whole}" if most < first else ""
        yield Note("limits.max_trials", f"{most} trials end the brackets before the {total} that they need{early}")
    elif entry is not None and most < first:
        yield Note("limits.max_trials", f"{most} trials end the search before {whole}: {entry.name} needs {first}")


def _needed(experiment: Experiment, budget: Budget) -> tuple[int, int]:
    """How many trials there are before one can have the whole budget, itself among them, and in all brackets.

    Each is 0 where the algorithm has no such number.
    """
    name = experiment.algorithm.name
    if name in ("hyperband", "bohb"):
        brackets = [sum(rung.size for rung in rungs) for rungs in hyperband_brackets(budget)]
        rounds = int(experiment.algorithm.settings.get("rounds", 1))
        return brackets[0], sum(brackets) * rounds if name == "hyperband" else 0
    if name == "asha":
        return sum(budget.eta**level for level in range(len(ladder(budget)))), 0
    return 0, 0


def _budget(experiment: Experiment) -> Iterator[Note]:
    entry = find_algorithm(experiment.algorithm.registered_name)
    if experiment.budget is not None and entry is not None and not entry.budget:
        what = f"{experiment.budget.parameter} has no value, and an argument that names it is left out"
        yield Note("budget", f"{entry.name} gives trials none: {what}; hyperband, asha, bohb and pbt give them one")


def _warm_start(experiment: Experiment) -> Iterator[Note]:
    entry = find_algorithm(experiment.algorithm.registered_name)
    if experiment.warm_start and entry is not None and not entry.earlier:
        yield Note("warm_start", f"{experiment.algorithm.name} learns nothing from the trials of earlier experiments")


def _initial(experiment: Experiment) -> Iterator[Note]:
    most, count = experiment.limits.max_trials, len(experiment.initial)
    if most is not None and count > most:
        yield Note("initial", f"{count - most} of {count} points are never tried, because limits.max_trials is {most}")


def _parameters(experiment: Experiment) -> Iterator[Note]:
    """Parameters that no argument of a program holds, and that decide about no other; constants likewise."""
    if experiment.trial.kind == "function":
        return  # one that does not take them all is refused
    used = {name for _, name in placeholders(experiment.trial)}
    if "trial.file" in used:
        return
    budget = [experiment.budget.parameter] if experiment.budget else []
    parents = {parent for parameter in experiment.parameters.values() for parent in parameter.when}
    unused = [name for name in [*experiment.parameters, *budget] if name not in used and name not in parents]
    how = "it changes nothing but for a program that reads the file named by KATIB_FLOW_TRIAL_FILE"
    for name in unused:
        where = "budget.parameter" if name in budget else f"parameters.{name}"
        yield Note(where, f"no argument holds ${{{name}}}: {how}")
    for name in experiment.trial.arguments:
        if name not in used:
            yield Note(f"trial.arguments.{name}", f"no argument holds ${{{name}}}: {how}")


def _shell(experiment: Experiment) -> Iterator[Note]:
    """What a shell would act on, in a command that none reads."""
    for position, argument in enumerate(experiment.trial.command or ()):
        if argument in _OPERATORS:
            text = f"no shell reads it: the program is given {argument!r} as it stands; [sh, -c, 'LINE'] runs a shell"
            yield Note(f"trial.command[{position}]", text)


def _early_stopping(experiment: Experiment) -> Iterator[Note]:
    spec, most = experiment.early_stopping, experiment.limits.max_trials
    rule = rule_of(experiment)
    if spec is None or rule is None or most is None:
        return
    needed = getattr(rule.settings.model_validate(spec.settings), "min_trials", 0)
    if needed >= most:
        text = f"{rule.name} ends a trial only when {needed} others have ended, and limits.max_trials is {most}"
        yield Note("early_stopping", text)


def _metrics(experiment: Experiment) -> Iterator[Note]:
    metrics = experiment.metrics
    for key, sources in _READ_BY.items():
        if key in metrics.model_fields_set and metrics.source not in sources and getattr(metrics, key):
            yield Note(f"metrics.{key}", f"nothing reads it, because metrics.source is {metrics.source}")


def _tracking(experiment: Experiment) -> Iterator[Note]:
    if experiment.tracking.register_model and experiment.architecture is None:
        yield Note("tracking.register_model", "only the network of an architecture search is registered")


def on_this_machine(experiment: Experiment) -> list[Note]:
    """What works in a pod, and not on this machine."""
    if experiment.metrics.source != "katib" or Path(NAMESPACE_FILE).exists():
        return []
    why = f"it reads {NAMESPACE_FILE}, which only pods have, and calls an address that only pods know"
    what = "call Katib's API at $KATIB_DB_MANAGER_ADDRESS, or kf.report"
    return [Note("metrics.source", f"report_metrics of Katib's SDK fails on this machine: {why}; {what}")]


def on_a_cluster(experiment: Experiment) -> list[Note]:
    """What a spec states without effect where it runs on a cluster."""
    notes: list[Note] = []
    if experiment.tracking.register_model:
        how = f"`katib-flow register {experiment.name}` does it, where PyTorch is installed"
        notes.append(Note("tracking.register_model", f"a workflow registers no model when it has ended; {how}"))
    if experiment.metrics.container is not None and experiment.trial.kind in ("function", "command"):
        text = f"it is left out: metrics.command reads the metrics of a {experiment.trial.kind}, in the same container"
        notes.append(Note("metrics.container", text))
    return notes


def not_installed(experiment: Experiment) -> list[Note]:
    """What the algorithm lacks on this machine; where the experiment is for a cluster, that does no harm."""
    return [Note(each.where, f"{each.found} needs {each.need}") for each in check_installed(experiment)]


def out_of_space(experiment: Experiment, name: str, trials: Sequence[Trial]) -> list[Note]:
    """How many trials of an earlier experiment an experiment can learn from, where that is not all of them."""
    ended = [trial for trial in trials if trial.state.over]
    space = search_space(experiment)
    outside = [trial for trial in ended if trial.assignment not in space]
    if ended and not outside:
        return []
    count = f"{len(ended) - len(outside)} of {len(ended)} trials of {name} lie in this space"
    reasons = Counter(f"{name} {why}" for trial in outside for name, why in space.why_not(trial.assignment))
    said = "; ".join(f"{reason} ({count} trial{'s' * (count != 1)})" for reason, count in reasons.most_common(5))
    return [Note("warm_start", count + (f": {said}" if said else ""))]


def reported_once(experiment: Experiment, reports: int) -> list[Note]:
    """What to tell of a trial that ended well, and reported too seldom for early stopping to judge it."""
    spec, rule = experiment.early_stopping, rule_of(experiment)
    if spec is None or rule is None:
        return []
    needed = max(2, getattr(rule.settings.model_validate(spec.settings), "start_step", 1))
    if reports >= needed:
        return []
    often = f"{reports} time{'s' * (reports != 1)}"
    metric = experiment.objective[0].metric
    text = f"a trial reported {metric} {often}, and {rule.name} judges after {needed} reports: it ends none like it"
    return [Note("early_stopping", text)]
