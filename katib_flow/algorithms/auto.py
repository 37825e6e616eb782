"""Automatic: the algorithm that did best in benchmarks of similar experiments; the choice and its reason are recorded.

The rules rest on benchmarks/search.py, multi_budget.py and, for architectures, whose slots are ordinary parameters,
nas_search.py; see "Which algorithm" in docs/algorithms.md. They look only at the spec, never at results, so that the
choice holds for the whole experiment; in a recorded experiment the choice replaces auto.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from katib_flow.algorithms.registry import Ask, Settings, algorithm, find_algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter
from katib_flow.spec.sections import AUTO
from katib_flow.wording import counted

MANY_PARAMETERS = 100  # too many for a Gaussian process with a lengthscale per parameter
MANY_TRIALS = 1000  # above this, cmaes finds points as good as those of gp in a tenth of the time
MANY_TRIALS_OF_SEVERAL = 500  # the same limit for several objectives, above which nsga2 takes over


@dataclass(frozen=True)
class Choice:
    """The name of an algorithm, and the reason for choosing it, as a phrase for people."""

    name: str
    why: str


def choice(experiment: Experiment) -> Choice:
    """The algorithm that auto stands for in an experiment."""
    objectives, trials = len(experiment.objective), experiment.limits.max_trials
    space, about = search_space(experiment), described(experiment)
    if objectives > 1:
        if trials is not None and trials > MANY_TRIALS_OF_SEVERAL:
            return Choice("nsga2", f"{objectives} objectives and {trials} trials, enough for a population")
        return Choice("gp", f"{objectives} objectives: the next trial is the one expected to extend their front most")
    if experiment.budget is not None:
        name = "mobster" if 0 < len(space) <= MANY_PARAMETERS else "bohb"
        return Choice(
            name, f"{about}, and trials have a budget: a small part of it is enough to rule out most assignments"
        )
    if not len(space):
        return Choice("random", "nothing to search: no parameters, and no slots in the architecture")
    if space.size is not None and trials is not None and space.size <= trials:
        return Choice(
            "sobol", f"{counted(trials, 'trial')} can cover the whole space of {counted(space.size, 'point')}"
        )
    simple = "cmaes" if not list(_refused(experiment, "cmaes")) else "tpe"
    if len(space) > MANY_PARAMETERS:
        return Choice(simple, f"{about}: more than {MANY_PARAMETERS} are too many for a Gaussian process")
    if trials is not None and trials > MANY_TRIALS:
        return Choice(simple, f"{about}, {counted(trials, 'trial')}: {simple} is fast, and learns from every trial")
    limit = "no limit on trials" if trials is None else counted(trials, "trial")
    return Choice("gp", f"{about}, {limit}: gp needs the fewest trials")


def described(experiment: Experiment) -> str:
    """The number and the kinds of the parameters: "3 parameters (1 categorical)"."""
    parameters = search_space(experiment).parameters.values()
    categorical = sum(isinstance(parameter, CategoricalParameter) for parameter in parameters)
    conditional = sum(bool(parameter.when) for parameter in parameters)
    parts = [f"{categorical} categorical"] * bool(categorical) + [f"{conditional} conditional"] * bool(conditional)
    return counted(len(parameters), "parameter") + (f" ({', '.join(parts)})" if parts else "")


def settled(experiment: Experiment) -> Experiment:
    """The experiment with auto replaced by its choice; unchanged if it names another algorithm."""
    if experiment.algorithm.registered_name != AUTO:
        return experiment
    chosen = choice(experiment)
    update = {"name": chosen.name, "why": f"chosen by auto: {chosen.why}"}
    return experiment.model_copy(update={"algorithm": experiment.algorithm.model_copy(update=update)})


def _refused(experiment: Experiment, name: str) -> Iterator[SpecError]:
    """The reasons why an algorithm cannot search an experiment; nothing if it can."""
    entry = find_algorithm(name)
    assert entry is not None
    if entry.check:
        yield from entry.check(experiment, entry.settings())


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from _refused(experiment, choice(experiment).name)


@algorithm(AUTO, check=_check, several=True)
def auto(ask: Ask[Settings]) -> Sequence[Suggestion]:
    """The suggestions of the chosen algorithm."""
    chosen = settled(ask.experiment)
    entry = find_algorithm(chosen.algorithm.registered_name)
    assert entry is not None
    return list(entry.answer(replace(ask, experiment=chosen, settings=entry.settings_of(chosen))).suggestions)
