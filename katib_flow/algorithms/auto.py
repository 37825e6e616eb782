"""Automatic: the algorithm that measured best for an experiment like this one; it says which, and why.

The rules rest on benchmarks/search.py, multi_budget.py and, for architectures, whose slots are parameters like others,
nas_search.py; see "Which algorithm" in docs/algorithms.md. They look at the spec alone, never at results, so that the
choice holds for the whole experiment; a recorded experiment has the choice in the place of auto.
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

MANY_PARAMETERS = 100  # for a Gaussian process to have a lengthscale of each
MANY_TRIALS = 1000  # from where cmaes finds what gp does, at a tenth of its time
MANY_TRIALS_OF_SEVERAL = 500


@dataclass(frozen=True)
class Choice:
    """An algorithm, and why it was chosen, for a person."""

    name: str
    why: str


def choice(experiment: Experiment) -> Choice:
    """What auto stands for in an experiment."""
    objectives, trials = len(experiment.objective), experiment.limits.max_trials
    space, about = search_space(experiment), described(experiment)
    if objectives > 1:
        if trials is not None and trials > MANY_TRIALS_OF_SEVERAL:
            return Choice("nsga2", f"{objectives} objectives, and trials enough for a population ({trials})")
        return Choice("gp", f"{objectives} objectives: the trial expected to add most to their front comes next")
    if experiment.budget is not None:
        return Choice("bohb", f"trials have a budget: most of the {about} settings need little of it to be told apart")
    if not len(space):
        return Choice("random", "there is nothing to choose: an architecture without decisions, and no parameters")
    if space.size is not None and trials is not None and space.size <= trials:
        return Choice("sobol", f"all {space.size} points can be tried, each once")
    simple = "cmaes" if not list(_refused(experiment, "cmaes")) else "tpe"
    if len(space) > MANY_PARAMETERS:
        return Choice(simple, f"{about}: more than {MANY_PARAMETERS} are too many for a Gaussian process")
    if trials is not None and trials > MANY_TRIALS:
        return Choice(simple, f"{about}, {trials} trials: it thinks little, and learns from all of them")
    return Choice("gp", f"{about}, {'no limit' if trials is None else f'{trials} trials'}: it needs the fewest")


def described(experiment: Experiment) -> str:
    """The parameters, in a few words."""
    parameters = search_space(experiment).parameters.values()
    categorical = sum(isinstance(each, CategoricalParameter) for each in parameters)
    conditional = sum(bool(each.when) for each in parameters)
    parts = [f"{categorical} categorical"] * bool(categorical) + [f"{conditional} conditional"] * bool(conditional)
    count = len(parameters)
    return f"{count} parameter{'s' * (count != 1)}" + (f" ({', '.join(parts)})" if parts else "")


def settled(experiment: Experiment) -> Experiment:
    """The experiment with auto's choice in the place of auto; any other as it is."""
    if experiment.algorithm.registered_name != AUTO:
        return experiment
    chosen = choice(experiment)
    update = {"name": chosen.name, "why": f"chosen by auto: {chosen.why}"}
    return experiment.model_copy(update={"algorithm": experiment.algorithm.model_copy(update=update)})


def _refused(experiment: Experiment, name: str) -> Iterator[SpecError]:
    """Why an algorithm could not search an experiment."""
    entry = find_algorithm(name)
    assert entry is not None
    if entry.check:
        yield from entry.check(experiment, entry.settings())


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from _refused(experiment, choice(experiment).name)


@algorithm(AUTO, check=_check, several=True)
def auto(ask: Ask[Settings]) -> Sequence[Suggestion]:
    """What the chosen algorithm proposes."""
    chosen = settled(ask.experiment)
    entry = find_algorithm(chosen.algorithm.registered_name)
    assert entry is not None
    return list(entry.answer(replace(ask, experiment=chosen, settings=entry.settings_of(chosen))).suggestions)
