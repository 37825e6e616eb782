"""How an algorithm is written, registered and asked: a pure function of an ``Ask``, in a file of its own."""

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import ConfigDict, ValidationError

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import History, Suggestion
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Model
from katib_flow.spec.problems import NOTHING, did_you_mean, spec_errors
from katib_flow.spec.sections import Objective
from katib_flow.spec.space import SearchSpace

ENTRY_POINTS = "katib_flow.algorithms"


class Settings(Model):
    """Base of an algorithm's settings: frozen, and a key it does not know is an error.

    The text below a field says what it is to ``katib-flow algorithms NAME``.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Ask(Generic[S]):
    """What an algorithm is asked: propose a suggestion for each index.

    Attributes:
        indices: positions of the wanted suggestions; an algorithm may answer fewer: it waits for running trials, or
            has nothing left to propose.
    """

    experiment: Experiment
    history: History
    indices: range
    settings: S

    @property
    def space(self) -> SearchSpace:
        return self.experiment.space

    @property
    def objective(self) -> Objective:
        """The first objective, the only one for most algorithms."""
        return self.experiment.objective[0]

    @property
    def seed(self) -> int:
        return self.experiment.algorithm.seed

    def rng(self, index: int) -> np.random.Generator:
        """The random stream of one index: the same numbers whenever it is asked for."""
        return np.random.default_rng((self.seed, index))


Propose = Callable[[Ask[Any]], Sequence[Suggestion]]
Check = Callable[[Experiment, Any], Iterator[SpecError]]


@dataclass(frozen=True)
class Algorithm:
    """A registered algorithm."""

    name: str
    propose: Propose
    settings: type[Settings]
    check: Check | None = None
    ends: bool = False
    aliases: tuple[str, ...] = ()
    summary: str = ""

    def settings_of(self, experiment: Experiment) -> Settings:
        return self.settings.model_validate(experiment.algorithm.settings)


_registered: dict[str, Algorithm] = {}


def algorithm(
    name: str,
    *,
    settings: type[Settings] = Settings,
    check: Check | None = None,
    ends: bool = False,
    aliases: Sequence[str] = (),
) -> Callable[[Propose], Propose]:
    """Register a function as an algorithm.

    Args:
        name: what a spec calls it.
        settings: the model of its settings.
        check: yields what is wrong with an experiment for this algorithm, before anything is run.
        ends: whether it has only so much to propose, be the space uncountable.
        aliases: other names it answers to.
    """

    def register(propose: Propose) -> Propose:
        doc = importlib.import_module(propose.__module__).__doc__ or propose.__doc__ or ""
        entry = Algorithm(name, propose, settings, check, ends, tuple(aliases), doc.strip().split("\n")[0])
        for each in (name, *aliases):
            _registered[each] = entry
        return propose

    return register


def _load_all() -> None:
    """Import every file of this package and every entry point; each registers what it has."""
    import katib_flow.algorithms as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name != "registry":
            importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise KatibFlowError(f"entry point {entry.value} of {ENTRY_POINTS}: does not import: {what}") from error


def registered_algorithms() -> Mapping[str, Algorithm]:
    """Every algorithm under its own name, in the order of the alphabet."""
    _load_all()
    return {name: entry for name, entry in sorted(_registered.items()) if name == entry.name}


def find_algorithm(name: str) -> Algorithm | None:
    """The algorithm of a name or alias; imports its own file only, where there is one."""
    if name not in _registered:
        try:
            importlib.import_module(f"katib_flow.algorithms.{name.replace('-', '_')}")
        except (ImportError, ValueError):  # ValueError: no module has such a name
            _load_all()
    return _registered.get(name)


def check_algorithm(experiment: Experiment) -> Iterator[SpecError]:
    """What is wrong with the algorithm's name, its settings, or the experiment it is asked to search."""
    spec = experiment.algorithm
    entry = find_algorithm(spec.name)
    if entry is None:
        known = registered_algorithms()
        yield SpecError("algorithm.name", spec.name, f"one of {', '.join(known)}{did_you_mean(spec.name, known)}")
        return
    if not entry.ends:
        yield from _endless(experiment)
    try:
        settings = entry.settings_of(experiment)
    except ValidationError as error:
        yield from spec_errors(error, entry.settings, spec.settings, at=("algorithm", "settings"))
        return
    if entry.check:
        yield from entry.check(experiment, settings)


def _endless(experiment: Experiment) -> Iterator[SpecError]:
    limits = experiment.limits
    ends = (limits.max_trials, limits.timeout, *(objective.goal for objective in experiment.objective))
    if all(end is None for end in ends) and (experiment.architecture is not None or experiment.space.size is None):
        need = "what ends the experiment: max_trials, a timeout, or a goal in objective"
        yield SpecError("limits", NOTHING, need)
