"""The registry of algorithms. An algorithm is a pure function of an ``Ask``, in a file of its own."""

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
    """A request to an algorithm: propose a suggestion for each index.

    Attributes:
        indices: indices of the requested suggestions. An algorithm may give fewer, if it waits for running trials or
            has nothing left to propose.
        earlier: trials of earlier experiments, to learn from; they do not belong to this one.
    """

    experiment: Experiment
    history: History
    indices: range
    settings: S
    earlier: History = field(default_factory=History)

    @cached_property
    def space(self) -> SearchSpace:
        """The search space: the parameters, and the slots of the architecture."""
        return search_space(self.experiment)

    @cached_property
    def architectures(self) -> "Space | None":
        """The space of architectures, whose slots are part of ``space``; None if no architecture is searched."""
        return architectures(self.experiment)

    def key(self, assignment: Assignment) -> Hashable:
        """A key that is equal for equivalent assignments: equal parameters, and slots that give the same network."""
        return identity(self.space, self.architectures, assignment)

    @property
    def objective(self) -> Objective:
        """The first objective; for most algorithms the only one."""
        return self.experiment.objective[0]

    def loss(self, trial: Trial) -> float:
        """The loss of a trial by the first objective; lower is better.

        Raises:
            KeyError: the trial has no observation of the objective.
        """
        return self.objective.loss(trial.observations[self.objective.metric])

    @property
    def seed(self) -> int:
        """The seed of the experiment, ``algorithm.seed``."""
        return self.experiment.algorithm.seed

    def rng(self, index: int) -> "np.random.Generator":
        """A new random generator for an index; it gives the same numbers at every call."""
        import numpy as np  # slow to import, and most programs use no algorithm

        return np.random.default_rng((self.seed, index))


def identity(space: SearchSpace, architectures: "Space | None", assignment: Assignment) -> Hashable:
    """The identity of an assignment: its values, with the canonical hash of the network in place of the slots."""
    network = architectures.identity(assignment) if architectures is not None and assignment in space else None
    if architectures is None or network is None:
        return space.key(assignment)
    others = {name: value for name, value in assignment.items() if name not in architectures.parameters}
    return network, space.key(others)


Propose = Callable[..., Any]
"""``propose(ask)`` returns suggestions. For an algorithm that learns it is ``propose(ask, known)``; for a stateful one
``propose(ask, kept)``, which returns an ``Answer``."""
Check = Callable[[Experiment, Any], Iterator[SpecError]]
Segment = Callable[..., Iterator[dict[str, object]]]
"""Trains a suggestion of a system in a trial: ``segment(settings, data, seed=0, threads=1)`` yields its metrics."""
Draw = Callable[[Trial, "Topology", "Topology | None"], "Iterator[Block]"]
"""Draws, for the report, what only the algorithm knows of a trial: ``draw(trial, network, next_network)``."""
Strategy = Literal["generation", "modification"]
"""How a system of architecture search proposes a network: it generates a new one, or modifies an existing one."""
Scope = Literal["network", "cell"]
"""What a system of architecture search searches: a whole network, or a cell that is repeated."""


@dataclass(frozen=True)
class Algorithm:
    """A registered algorithm, with the arguments of ``algorithm``; ``summary`` is the first line of its file."""

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
        """The settings that an experiment gives, with defaults filled in.

        Raises:
            pydantic.ValidationError: they are invalid; ``check_algorithm`` reports this earlier.
        """
        return self.settings.model_validate(experiment.algorithm.settings)

    def answer(self, ask: Ask[Any], kept: Iterable[Learnt] = ()) -> Answer:
        """Its suggestions, and its knowledge if there is something new to keep.

        Args:
            kept: the knowledge of earlier calls, the newest first. It saves time, and changes the answer only for
                stateful algorithms.
        """
        if self.stateful:
            return self.propose(ask, kept)
        if self.learner is None:
            return Answer(self.propose(ask))
        known, learnt = taught(self.learner, ask, kept)
        return Answer(self.propose(ask, known), learnt)


_PACKAGES = {"katib": ("grpc",), "nas": ("torch", "safetensors")}
"""The packages to import from each extra that an algorithm may need."""

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
        name: its name in a spec.
        settings: the model of its settings.
        check: yields the reasons why this algorithm cannot search an experiment, before anything runs.
        ends: True if it stops by itself, even in an infinite space.
        several: True if it supports several objectives.
        aliases: other names for it.
        segment: trains, in a trial, the segments that it suggests, if it suggests any.
        train: trains, in a trial, any of its suggestions, if the standard trainers cannot.
        draw: draws, for a report, what only the algorithm knows of a trial.
        learner: how it learns, if learning anew at every call would be too expensive; the function then takes its
            knowledge as the second argument.
        extra: the extra of katib-flow that it needs to suggest: nas for PyTorch, katib for gRPC.
        strategy: for a system of architecture search, how it proposes a network.
        scope: for a system of architecture search, what it searches.
        earlier: True if it learns from the trials of earlier experiments (``warm_start``).
        budget: True if it assigns budgets to trials when the experiment has a budget.
        stateful: True if it runs outside katib-flow, and keeps a state of its own: the function takes the kept states
            as the second argument, and returns an ``Answer``.
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
    """All algorithms by name, without aliases, in alphabetical order."""
    return _registry.all()


def find_algorithm(name: str) -> Algorithm | None:
    """The algorithm with a name or alias, or None. Imports only the file of that name if there is one."""
    return _registry.find(name)


def check_algorithm(experiment: Experiment) -> Iterator[SpecError]:
    """Errors in the algorithm's name or settings, and reasons why it cannot search the experiment."""
    spec = experiment.algorithm
    wrong = list(_registry.check("algorithm", spec.registered_name, spec.settings))
    yield from wrong
    entry = find_algorithm(spec.registered_name)
    if entry and not entry.ends:
        yield from endless(experiment)
    if entry and len(experiment.objective) > 1 and not entry.several:
        able = ", ".join(other.name for other in registered_algorithms().values() if other.several)
        need = f"one objective for {entry.name}; these algorithms support several: {able}"
        yield SpecError("objective", f"{len(experiment.objective)} objectives", need)
    if entry and entry.check and not wrong:
        yield from entry.check(experiment, entry.settings_of(experiment))


def check_installed(experiment: Experiment) -> Iterator[SpecError]:
    """The packages that the algorithm needs to suggest, if they are not installed here.

    The experiment must have passed ``check_algorithm``.
    """
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
    """The error of an experiment that neither its search space nor a limit or goal ends."""
    limits = experiment.limits
    ends = (limits.max_trials, limits.timeout, *(objective.goal for objective in experiment.objective))
    endless_space = experiment.architecture is not None or search_space(experiment).size is None
    if endless_space and all(end is None for end in ends):
        need = "a condition that ends the experiment: max_trials, a timeout, or a goal in objective"
        yield SpecError("limits", NOTHING, need)
