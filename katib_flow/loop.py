"""The two decisions of the loop, as pure functions: ``verdict`` decides whether to continue, ``suggest`` with what.

Both schedulers call these functions: local/ on this machine, and the programs in steps/ on Argo.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from katib_flow.algorithms.learning import Answer
from katib_flow.algorithms.registry import Ask, check_algorithm, check_installed, find_algorithm
from katib_flow.basis import Basis
from katib_flow.errors import InvalidSpec, KatibFlowError
from katib_flow.history import History, Kind, Learnt, State, Suggestion
from katib_flow.initial import with_initial
from katib_flow.spaces import architectures, check_architecture
from katib_flow.spec.config_maps import ConfigMaps, nobody
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import Parsed, read_spec
from katib_flow.spec.rules import Rule, broken
from katib_flow.stopping import check_stopping
from katib_flow.wording import counted

NOTHING = History()


class End(StrEnum):
    """The reason why an experiment ended, or NOT_YET."""

    NOT_YET = "not-yet"
    GOAL = "goal"
    MAX_TRIALS = "max-trials"
    EXHAUSTED = "exhausted"
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    MAX_FAILED_TRIALS = "max-failed-trials"


@dataclass(frozen=True)
class Verdict:
    """Whether an experiment continues, and how many trials may start.

    Attributes:
        may_start: number of trials that may start now, at least 0.
        end: why no more trials may start; NOT_YET if the experiment continues.
        reason: the reason for people; "" if the experiment continues.
        fruitless: True if it ended by itself without a trial that has a finite value of every objective.
    """

    may_start: int
    end: End = End.NOT_YET
    reason: str = ""
    fruitless: bool = False

    @property
    def go(self) -> bool:
        """True if the experiment continues."""
        return self.end is End.NOT_YET

    @property
    def failed(self) -> bool:
        """True if the experiment ended as failed."""
        return self.end is End.MAX_FAILED_TRIALS or self.fruitless


def exhausted(experiment: Experiment, history: History) -> Verdict:
    """The verdict if the algorithm suggests nothing while no trial is running, so that it never will."""
    return _judged(Verdict(0, End.EXHAUSTED, "the algorithm has nothing more to suggest"), experiment, history)


def verdict(
    experiment: Experiment,
    history: History,
    *,
    elapsed_seconds: float = 0.0,
    max_trials: int | None = None,
    timeout: float | None = None,
    stop: bool = False,
) -> Verdict:
    """Decide whether the experiment continues, and how many trials may start.

    Args:
        elapsed_seconds: how long the experiment has run.
        max_trials, timeout: values that replace the spec's limits (``resume --max-trials``, ``--timeout``).
        stop: True if a user has asked to stop the experiment.
    """
    limited = _limited(experiment, history, elapsed_seconds, max_trials, timeout, stop=stop)
    return limited if limited.go else _judged(limited, experiment, history)


def _judged(ended: Verdict, experiment: Experiment, history: History) -> Verdict:
    """A verdict that ends an experiment, marked as fruitless if there is no result and no trial is open any more."""
    wanted = [objective.metric for objective in experiment.objective]
    if (
        ended.end is End.STOPPED
        or history.open()
        or any(all(trial.observed(metric) is not None for metric in wanted) for trial in history)
    ):
        return ended
    what = " and ".join(repr(metric) for metric in wanted)
    reason = f"{ended.reason}; no trial gave a finite value of {what}{_causes(history)}"
    if any(trial.suggestion.origin.kind is Kind.SEGMENT and trial.state is State.SUCCEEDED for trial in history):
        reason += "; segments of a search do not count, and no network that it derived was trained"
    return replace(ended, reason=reason, fruitless=True)


def _causes(history: History) -> str:
    """The number of trials in each state, with their most frequent message; "" without trials."""
    states = [
        (state, count, Counter(trial.message for trial in history if trial.state is state and trial.message))
        for state, count in history.counts().most_common()
    ]
    causes = [
        f"{count} {state}" + "".join(f" ({'most often ' * (len(texts) > 1)}{text})" for text, _ in texts.most_common(1))
        for state, count, texts in states
    ]
    return f": {', '.join(causes)}" if causes else ""


def _limited(
    experiment: Experiment,
    history: History,
    elapsed_seconds: float,
    max_trials: int | None,
    timeout: float | None,
    *,
    stop: bool,
) -> Verdict:
    limits = experiment.limits
    maximum = limits.max_trials if max_trials is None else max_trials
    counts = history.counts()
    failed = sum(count for state, count in counts.items() if state.failure)
    if goal := _goal(experiment, history):
        return Verdict(0, End.GOAL, goal)
    if failed > limits.max_failed_trials:
        return Verdict(0, End.MAX_FAILED_TRIALS, _too_many(failed, limits.max_failed_trials))
    if stop:
        return Verdict(0, End.STOPPED, "stopped by the user")
    longest = limits.timeout if timeout is None else timeout
    if longest is not None and elapsed_seconds >= longest:
        return Verdict(0, End.TIMEOUT, f"reached limits.timeout ({longest:g} s)")
    started = len(history) - counts[State.KILLED]  # a trial that katib-flow killed is not an evaluation
    if maximum is not None and started >= maximum:
        return Verdict(0, End.MAX_TRIALS, f"reached limits.max_trials ({maximum})")
    room = limits.parallel_trials - len(history.open())
    return Verdict(max(0, room if maximum is None else min(room, maximum - started)))


def _goal(experiment: Experiment, history: History) -> str:
    """A text about the trial that reached all goals; "" if no trial has."""
    wanted = [objective for objective in experiment.objective if objective.goal is not None]
    for trial in history if wanted else ():
        values = [trial.observed(objective.metric) for objective in wanted]
        if all(value is not None and objective.reached(value) for objective, value in zip(wanted, values, strict=True)):
            reached = ", ".join(
                f"{objective.metric} {value:g}" for objective, value in zip(wanted, values, strict=True)
            )
            return f"trial {trial.id} reached the goal with {reached}"
    return ""


def suggest(
    experiment: Experiment, history: History, n: int, *, start: int | None = None, earlier: History = NOTHING
) -> list[Suggestion]:
    """Up to ``n`` suggestions; for the same history, always the same ones.

    Args:
        start: index of the first suggestion; by default the one after the last in the history.
        earlier: trials of earlier experiments to learn from (``warm_start``).

    Raises:
        InvalidSpec: the algorithm is unknown, cannot search this experiment, or lacks a package on this machine.
    """
    return list(answer(experiment, history, n, start=start, earlier=earlier).suggestions)


def check_can_search(experiment: Experiment) -> None:
    """Check that the algorithm can search this experiment on this machine.

    Raises:
        InvalidSpec: it is unknown, cannot search this experiment, or lacks a package on this machine.
    """
    if problems := list(broken(experiment, (check_architecture, check_algorithm, check_installed))):
        raise InvalidSpec(experiment.name, problems)


def answer(
    experiment: Experiment,
    history: History,
    n: int,
    *,
    start: int | None = None,
    earlier: History = NOTHING,
    kept: Iterable[Learnt] = (),
) -> Answer:
    """As ``suggest``, but with the basis of each suggestion and the state that the algorithm has learned.

    Args:
        kept: states that it had learned before, the newest first; they save time, but change no suggestion.
    """
    check_can_search(experiment)
    algorithm = find_algorithm(experiment.algorithm.registered_name)
    assert algorithm is not None
    first = history.next_index if start is None else start
    learnt: Learnt | None = None

    def propose(indices: range) -> list[Suggestion]:
        nonlocal learnt
        if not indices:
            return []
        ask = Ask(experiment, history, indices, algorithm.settings_of(experiment), earlier)
        answered = algorithm.answer(ask, kept)
        learnt = answered.learnt
        return list(answered.suggestions)

    suggestions = with_initial(experiment, history, range(first, first + max(0, n)), propose)
    basis = Basis.of_request(history, first, max(0, n), earlier)
    complete = [replace(_with_topology(experiment, suggestion), basis=basis) for suggestion in suggestions]
    return Answer(complete, learnt)


def _with_topology(experiment: Experiment, suggestion: Suggestion) -> Suggestion:
    """A suggestion with the topology of its decisions, unless the algorithm has set one itself.

    If the decisions give no valid network, there is no topology: building the trial's model then fails with the reason.
    """
    space = architectures(experiment)
    if space is None or suggestion.topology is not None:
        return suggestion
    try:
        topology = space.topology(suggestion.assignment)
    except InvalidSpec:
        return suggestion
    return replace(suggestion, topology=topology.to_dict())


def proposed(
    experiment: Experiment,
    history: History,
    n: int,
    *,
    start: int | None = None,
    earlier: History = NOTHING,
    kept: Iterable[Learnt] = (),
) -> Answer:
    """As ``answer``, but any exception that the algorithm raises becomes a KatibFlowError.

    Raises:
        KatibFlowError: the algorithm failed.
    """
    try:
        return answer(experiment, history, n, start=start, earlier=earlier, kept=kept)
    except KatibFlowError:
        raise
    except Exception as error:
        raise KatibFlowError(f"algorithm {experiment.algorithm.name}: {type(error).__name__}: {error}") from error


def load(path: str | Path, *, config_maps: ConfigMaps = nobody) -> Experiment:
    """Load an experiment from a spec file or a Katib manifest, and check its algorithm and early stopping, too.

    Args:
        config_maps: maps a namespace and a name to the data of a ConfigMap, for a Katib manifest whose trial template
            is in one; ``katib_flow.argo.config_maps.in_cluster()`` reads from the cluster of the kubeconfig.

    Raises:
        InvalidSpec: with every mistake in the file, each with its line.
        KatibFlowError: the file cannot be read, or is not YAML.
    """
    return read(path, config_maps=config_maps).experiment


def read(path: str | Path, further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """As ``load``, but with the notes on a Katib manifest, and with further rules."""
    return read_spec(path, [check_architecture, check_algorithm, check_stopping, *further], config_maps)


def checked(data: Mapping[str, Any], source: str = "") -> Experiment:
    """Build an experiment from plain data, and check its algorithm and early stopping, too.

    Raises:
        InvalidSpec: with every mistake in the data.
    """
    return Experiment.parse(data, source, [check_architecture, check_algorithm, check_stopping])


def _too_many(failed: int, allowed: int | None) -> str:
    return f"{counted(failed, 'trial')} failed; limits.max_failed_trials allows {allowed}"
