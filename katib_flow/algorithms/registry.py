"""How an algorithm is written, registered and asked: a pure function of an ``Ask``, in a file of its own."""

import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from katib_flow.algorithms.learning import Answer, Learner, taught
from katib_flow.errors import SpecError
from katib_flow.history import History, Learnt, Trial
from katib_flow.plugins import Registry, Settings
from katib_flow.spaces import architectures, search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.sections import Objective
from katib_flow.spec.space import Assignment, SearchSpace

if TYPE_CHECKING:
    import numpy as np

    from katib_flow.models.space import Space
    from katib_flow.models.topology import Topology
    from katib_flow.reports.blocks import Block

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Ask(Generic[S]):
    """What an algorithm is asked: propose a suggestion for each index.

    Attributes:
        indices: positions of the wanted suggestions; an algorithm may answer fewer: it waits for running trials, or
            has nothing left to propose.
        earlier: trials of earlier experiments, to learn from; they are no trials of this one.
    """

    experiment: Experiment
    history: History
    indices: range
    settings: S
    earlier: History = field(default_factory=History)

    @cached_property
    def space(self) -> SearchSpace:
        return search_space(self.experiment)

    @cached_property
    def architectures(self) -> "Space | None":
        """The space of architectures; None where none is searched. Its slots are part of ``space``."""
        return architectures(self.experiment)

    def key(self, assignment: Assignment) -> Hashable:
        """Equal for assignments that are one trial: equal parameters, and one network, whatever decides on it."""
        return identity(self.space, self.architectures, assignment)

    @property
    def objective(self) -> Objective:
        """The first objective, the only one for most algorithms."""
        return self.experiment.objective[0]

    def loss(self, trial: Trial) -> float:
        """What a trial with a result came to by the first objective; lower is better."""
        return self.objective.loss(trial.observations[self.objective.metric])

    @property
    def seed(self) -> int:
        return self.experiment.algorithm.seed

    def rng(self, index: int) -> "np.random.Generator":
        """The random stream of one index: the same numbers whenever it is asked for."""
        import numpy as np  # slow to import, and most programs ask no algorithm

        return np.random.default_rng((self.seed, index))


def identity(space: SearchSpace, architectures: "Space | None", assignment: Assignment) -> Hashable:
    """What tells trials apart: the values, and in the place of decisions the canonical hash of their network."""
    network = architectures.identity(assignment) if architectures is not None and assignment in space else None
    if architectures is None or network is None:
        return space.key(assignment)
    return network, space.key({name: each for name, each in assignment.items() if name not in architectures.parameters})


Propose = Callable[..., Any]
"""``propose(ask)`` gives suggestions; of an algorithm that learns, ``propose(ask, known)``; of one that keeps a state
of its own, ``propose(ask, kept)`` gives an ``Answer``."""
Check = Callable[[Experiment, Any], Iterator[SpecError]]
Segment = Callable[..., Iterator[dict[str, object]]]
"""Trains what a system suggests, in a trial: ``segment(settings, data, seed=0, threads=1)`` -> its metrics."""
Draw = Callable[[Trial, "Topology", "Topology | None"], "Iterator[Block]"]
"""What only the algorithm knows of a trial, for the report: ``draw(trial, its network, the next network)``."""
Strategy = Literal["generation", "modification"]
"""How a system of architecture search comes to a network: it makes each anew, or changes one that there is."""
Scope = Literal["network", "cell"]
"""What a system of architecture search decides on: a whole network, or a cell that is repeated."""


@dataclass(frozen=True)
class Algorithm:
    """A registered algorithm."""

    name: str
    propose: Propose
    settings: type[Settings]
    check: Check | None = None
    ends: bool = False
    several: bool = False
    aliases: tuple[str, ...] = ()
    summary: str = ""
    segment: Segment | None = None
    train: Segment | None = None
    draw: Draw | None = None
    learner: Learner[Any, Any, Any] | None = None
    extra: str | None = None
    strategy: Strategy | None = None
    scope: tuple[Scope, ...] = ()
    earlier: bool = False
    budget: bool = False
    stateful: bool = False

    def settings_of(self, experiment: Experiment) -> Settings:
        return self.settings.model_validate(experiment.algorithm.settings)

    def answer(self, ask: Ask[Any], kept: Iterable[Learnt] = ()) -> Answer:
        """What it suggests, with what it has learnt.

        Args:
            kept: what it had learnt when it was asked before, the newest first; the answer is the same without it,
                unless the algorithm runs elsewhere.
        """
        if self.stateful:
            return self.propose(ask, kept)
        if self.learner is None:
            return Answer(self.propose(ask))
        known, learnt = taught(self.learner, ask, kept)
        return Answer(self.propose(ask, known), learnt)


_PACKAGES = {"katib": ("grpc",), "nas": ("torch", "safetensors")}
"""What is imported of each extra that an algorithm may need."""

_registry = Registry[Algorithm](
    "an algorithm", "katib_flow.algorithms", ("katib_flow.algorithms", "katib_flow.nas.systems")
)


def algorithm(
    name: str,
    *,
    settings: type[Settings] = Settings,
    check: Check | None = None,
    ends: bool = False,
    several: bool = False,
    aliases: Sequence[str] = (),
    segment: Segment | None = None,
    train: Segment | None = None,
    draw: Draw | None = None,
    learner: Learner[Any, Any, Any] | None = None,
    extra: str | None = None,
    strategy: Strategy | None = None,
    scope: Scope | tuple[Scope, ...] = (),
    earlier: bool = False,
    budget: bool = False,
    stateful: bool = False,
) -> Callable[[Propose], Propose]:
    """Register a function as an algorithm.

    Args:
        name: what a spec calls it.
        settings: the model of its settings.
        check: yields what is wrong with an experiment for this algorithm, before anything is run.
        ends: whether it has only so much to propose, be the space uncountable.
        several: whether it takes several objectives; else it is refused where there are.
        aliases: other names it answers to.
        segment: how a trial trains the segments that it suggests, where it suggests any.
        train: how a trial trains whatever it suggests, where no trainer that comes along does.
        draw: what a report shows, beside a network, that only the algorithm knows.
        learner: how it learns what it could not cheaply learn anew whenever it is asked; the function then takes what
            it knows as its second argument.
        extra: of katib-flow, whose packages it needs to suggest: nas for PyTorch, katib for gRPC.
        strategy: of a system of architecture search, how it comes to a network.
        scope: of a system of architecture search, what it decides on.
        earlier: whether it learns from the trials of earlier experiments (``warm_start``).
        budget: whether it gives each trial a budget, where the experiment has one.
        stateful: whether it runs elsewhere, and has a state of its own kept: the function takes what was kept as its
            second argument, and gives an ``Answer``.
    """

    def register(propose: Propose) -> Propose:
        doc = importlib.import_module(propose.__module__).__doc__ or propose.__doc__ or ""
        summary = doc.strip().split("\n")[0]
        scopes: tuple[Scope, ...] = (scope,) if isinstance(scope, str) else scope
        more = (tuple(aliases), summary, segment, train, draw, learner, extra, strategy, scopes, earlier)
        kinds = (budget, stateful)
        _registry.add(Algorithm(name, propose, settings, check, ends, several, *more, *kinds), *aliases)
        return propose

    return register


def registered_algorithms() -> Mapping[str, Algorithm]:
    """Every algorithm under its own name, in the order of the alphabet."""
    return _registry.all()


def find_algorithm(name: str) -> Algorithm | None:
    """The algorithm of a name or alias; imports its own file only, where there is one."""
    return _registry.find(name)


def check_algorithm(experiment: Experiment) -> Iterator[SpecError]:
    """What is wrong with the algorithm's name, its settings, or the experiment it is asked to search."""
    spec = experiment.algorithm
    wrong = list(_registry.check("algorithm", spec.registered_name, spec.settings))
    yield from wrong
    entry = find_algorithm(spec.registered_name)
    if entry and not entry.ends:
        yield from endless(experiment)
    if entry and len(experiment.objective) > 1 and not entry.several:
        able = ", ".join(each.name for each in registered_algorithms().values() if each.several)
        need = f"one objective for {entry.name}; several can be searched with {able}"
        yield SpecError("objective", f"{len(experiment.objective)} objectives", need)
    if entry and entry.check and not wrong:
        yield from entry.check(experiment, entry.settings_of(experiment))


def check_installed(experiment: Experiment) -> Iterator[SpecError]:
    """What the algorithm needs to suggest that is not installed here, where ``check_algorithm`` has nothing to say."""
    entry = find_algorithm(experiment.algorithm.registered_name)
    if entry is None or entry.extra is None:
        return
    if absent := [name for name in _PACKAGES[entry.extra] if find_spec(name) is None]:
        here = (
            f"which {'is' if len(absent) == 1 else 'are'} not installed here: pip install 'katib-flow[{entry.extra}]'"
        )
        need = f"{' and '.join(absent)}, {here}; on Argo, an argo.image that has {'it' if len(absent) == 1 else 'them'}"
        yield SpecError("algorithm.name", experiment.algorithm.name, need)


def endless(experiment: Experiment) -> Iterator[SpecError]:
    """What is missing where neither the algorithm nor a limit ends the experiment."""
    limits = experiment.limits
    ends = (limits.max_trials, limits.timeout, *(objective.goal for objective in experiment.objective))
    endless_space = experiment.architecture is not None or search_space(experiment).size is None
    if endless_space and all(end is None for end in ends):
        need = "what ends the experiment: max_trials, a timeout, or a goal in objective"
        yield SpecError("limits", NOTHING, need)
