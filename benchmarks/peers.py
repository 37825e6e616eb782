"""The algorithms that are compared: ``ours:NAME`` and its peers, behind one ask/tell interface.

The library of a peer is imported only when the peer is used.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import flat
import yaml
from peer import Assignment, Peer
from problems import Problem

from katib_flow import loop
from katib_flow.algorithms import registered_algorithms
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.spec import Experiment, SearchSpace
from katib_flow.spec.parameters import CategoricalParameter, IntParameter, OrdinalParameter


class Ours(Peer):
    """Any registered algorithm of katib-flow, through ``loop.suggest``."""

    algorithm, settings = "random", {}

    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None:
        limits = {"max_trials": evaluations, "parallel_trials": batch}
        algorithm = {"name": self.algorithm, "seed": seed, "settings": self.settings}
        self.experiment = Experiment.parse(problem.spec(algorithm=algorithm, limits=limits))
        self.history = History()
        self.out: list[Suggestion] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self.out = loop.suggest(self.experiment, self.history, count)
        return [suggestion.assignment for suggestion in self.out]

    def tell(self, losses: Sequence[float]) -> None:
        pairs = zip(self.out, losses, strict=True)
        done = tuple(Trial(suggestion, State.SUCCEEDED, {"loss": loss}) for suggestion, loss in pairs)
        self.history = History((*self.history.trials, *done))

    def extend(self, assignments: Sequence[Assignment], losses: Sequence[float]) -> None:
        """Add trials that were carried out elsewhere."""
        start = self.history.next_index
        self.out = [Suggestion(index, assignment) for index, assignment in enumerate(assignments, start)]
        self.tell(losses)


class Optuna(Peer):
    """An Optuna sampler; a parameter with a logit scale, which Optuna lacks, is searched by its logit.

    Attributes:
        sampler: makes the sampler from a seed.
    """

    sampler: Callable[[int], Any]

    def __init__(self, problem: Problem, seed: int, batch: int, evaluations: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.space = problem.space
        self.study = optuna.create_study(sampler=self.sampler(seed))
        self.out: list[Any] = []

    def ask(self, count: int) -> Sequence[Assignment]:
        self.out = [self.study.ask() for _ in range(count)]
        return [drawn(self.space, trial) for trial in self.out]

    def tell(self, losses: Sequence[float]) -> None:
        for trial, loss in zip(self.out, losses, strict=True):
            self.study.tell(trial, loss)

    def extend(self, assignments: Sequence[Assignment], losses: Sequence[float]) -> None:
        """Add trials that were carried out elsewhere."""
        import optuna

        for assignment, loss in zip(assignments, losses, strict=True):
            params = {name: _stored(self.space.parameters[name], value) for name, value in assignment.items()}
            scratch = optuna.trial.FixedTrial(params)
            drawn(self.space, scratch)
            self.study.add_trial(optuna.create_trial(params=params, distributions=scratch.distributions, value=loss))


def drawn(space: SearchSpace, trial: Any) -> Assignment:
    """The assignment that an Optuna trial suggests, parameter by parameter."""
    assignment: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, assignment):
            assignment[name] = _suggested(trial, name, parameter)
    return assignment


def _stored(parameter: Any, value: Any) -> Any:
    """A value as Optuna stores it: the inverse of ``_suggested``."""
    if isinstance(parameter, OrdinalParameter) or (parameter.type == "float" and parameter.step):
        return parameter.position(value)
    logit = parameter.type == "float" and parameter.scale == "logit"
    return math.log(value / (1 - value)) if logit else value


def _suggested(trial: Any, name: str, parameter: Any) -> Any:
    if isinstance(parameter, CategoricalParameter):
        return trial.suggest_categorical(name, list(parameter.values()))
    if isinstance(parameter, OrdinalParameter):
        return parameter.nth(trial.suggest_int(name, 0, parameter.size - 1))
    low, high, log = parameter.min, parameter.max, parameter.scale == "log"
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, low, high, log=log, step=parameter.step)
    if parameter.scale == "logit":
        logit = trial.suggest_float(name, math.log(low / (1 - low)), math.log(high / (1 - high)))
        return min(max(1 / (1 + math.exp(-logit)), low), high)
    if parameter.step:
        return parameter.nth(trial.suggest_int(name, 0, parameter.size - 1))
    return trial.suggest_float(name, low, high, log=log)


class OptunaTPE(Optuna):
    """Optuna's TPE with its default settings."""

    def sampler(self, seed: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed)


class OptunaTPEGroup(Optuna):
    """Optuna's multivariate TPE, by group, with the constant liar for batches."""

    def sampler(self, seed: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class OptunaGP(Optuna):
    """Optuna's Gaussian process."""

    def sampler(self, seed: int) -> Any:
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed)


class OptunaCMA(Optuna):
    """Optuna's CMA-ES."""

    def sampler(self, seed: int) -> Any:
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(seed=seed)


PEERS: dict[str, type[Peer]] = {
    "optuna:tpe": OptunaTPE,
    "optuna:tpe-group": OptunaTPEGroup,
    "optuna:gp": OptunaGP,
    "optuna:cmaes": OptunaCMA,
    "smac": flat.Smac,
    "skopt:gp": flat.Skopt,
    "hebo": flat.Hebo,
}
NOT_SEARCHED = ("grid",)  # ours, but it needs a countable space


def peer(name: str) -> type[Peer]:
    """The peer with a name; ``ours:NAME[key=value;key=value]`` is an algorithm of ours with settings."""
    if not name.startswith("ours:"):
        return PEERS[name]
    word, _, text = name.removeprefix("ours:").partition("[")
    pairs = [item.partition("=")[::2] for item in text.rstrip("]").split(";") if item]
    settings = {key: yaml.safe_load(value) for key, value in pairs}
    return type("Ours", (Ours,), {"algorithm": word, "settings": settings})


def names(words: Sequence[str]) -> list[str]:
    """The names of algorithms, with ``ours:*`` replaced by all of ours and ``peers`` by all others.

    Raises:
        SystemExit: an algorithm is unknown.
    """
    ours = [f"ours:{name}" for name in registered_algorithms() if name not in NOT_SEARCHED]
    chosen: dict[str, None] = {}
    for word in words:
        chosen |= dict.fromkeys(ours if word == "ours:*" else PEERS if word == "peers" else [word])
    for name in chosen:
        if name not in PEERS and name.partition("[")[0] not in ours:
            raise SystemExit(f"algorithm {name!r}: need one of ours:*, peers, {', '.join([*ours, *PEERS])}")
    return list(chosen)
