"""The loop's two decisions, pure: ``verdict`` says whether to go on, ``suggest`` says with what.

Both schedulers drive these functions: local/ on this machine, and the programs in steps/ on Argo.
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

NOTHING = History()


class End(StrEnum):
    """Why an experiment ended, or NOT_YET."""

    NOT_YET = "not-yet"
    GOAL = "goal"
    MAX_TRIALS = "max-trials"
    EXHAUSTED = "exhausted"
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    MAX_FAILED_TRIALS = "max-failed-trials"


@dataclass(frozen=True)
class Verdict:
    """What may happen next.

    Attributes:
        may_start: how many trials may start now, at least 0.
        end: why no more trials may ever start; NOT_YET while they may.
        reason: the same for a person.
        fruitless: it ended by itself, and no trial has a finite value of every objective.
    """

    may_start: int
    end: End = End.NOT_YET
    reason: str = ""
    fruitless: bool = False

    @property
    def go(self) -> bool:
        return self.end is End.NOT_YET

    @property
    def failed(self) -> bool:
        return self.end is End.MAX_FAILED_TRIALS or self.fruitless


def exhausted(experiment: Experiment, history: History) -> Verdict:
    """The verdict where the algorithm proposes nothing while nothing runs: it never will."""
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
    """Whether the experiment goes on and how many trials may start.

    Args:
        elapsed_seconds: time for which the experiment has run.
        max_trials, timeout: replace the spec's limits (``resume --max-trials``, ``--timeout``).
        stop: a user asked for the end.
    """
    limited = _limited(experiment, history, elapsed_seconds, max_trials, timeout, stop=stop)
    return limited if limited.go else _judged(limited, experiment, history)


def _judged(ended: Verdict, experiment: Experiment, history: History) -> Verdict:
    """A verdict that ends an experiment, with what there is to say where it has no result and nothing runs any more."""
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
        reason += "; segments of a search do not count, and nothing that it derived was trained"
    return replace(ended, reason=reason, fruitless=True)


def _causes(history: History) -> str:
    """How many trials ended in each state, and what most of them say; "" where there are none."""
    states = [
        (state, count, Counter(trial.message for trial in history if trial.state is state and trial.message))
        for state, count in history.counts().most_common()
    ]
    said = [
        f"{count} {state}" + "".join(f" ({'most often ' * (len(texts) > 1)}{text})" for text, _ in texts.most_common(1))
        for state, count, texts in states
    ]
    return f": {', '.join(said)}" if said else ""


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
    started = len(history) - counts[State.KILLED]  # a killed trial was cut short by us: it is not an evaluation
    if maximum is not None and started >= maximum:
        return Verdict(0, End.MAX_TRIALS, f"reached limits.max_trials ({maximum})")
    room = limits.parallel_trials - len(history.open())
    return Verdict(max(0, room if maximum is None else min(room, maximum - started)))


def _goal(experiment: Experiment, history: History) -> str:
    """The goal that was reached, for a person; empty where none was. One trial must reach all of several."""
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
    """Up to ``n`` suggestions, the same whenever it is called with the same history.

    Args:
        start: index of the first; the one after the last in the history where it is not given.
        earlier: trials of earlier experiments, to learn from (``warm_start``).

    Raises:
        InvalidSpec: the algorithm is unknown, or cannot search this experiment, or not on this machine.
    """
    return list(answer(experiment, history, n, start=start, earlier=earlier).suggestions)


def check_can_search(experiment: Experiment) -> None:
    """Make sure that the algorithm can be asked on this machine.

    Raises:
        InvalidSpec: it is unknown, or cannot search this experiment, or not here.
    """
    if found := list(broken(experiment, (check_architecture, check_algorithm, check_installed))):
        raise InvalidSpec(experiment.name, found)


def answer(
    experiment: Experiment,
    history: History,
    n: int,
    *,
    start: int | None = None,
    earlier: History = NOTHING,
    kept: Iterable[Learnt] = (),
) -> Answer:
    """As ``suggest``, with what the algorithm has learnt; each suggestion says what it was derived from.

    Args:
        kept: what it had learnt before, the newest first; it saves time, and changes no suggestion.
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
    basis = Basis.of(history, first, max(0, n), earlier)
    return Answer([replace(_with_topology(experiment, each), basis=basis) for each in suggestions], learnt)


def _with_topology(experiment: Experiment, suggestion: Suggestion) -> Suggestion:
    """A suggestion with the topology that its decisions stand for, where the algorithm has not made one itself.

    Where they stand for no sound network there is none: building the trial's model tells why, and the trial fails.
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
    """As ``answer``, an algorithm's own mistakes as one clear message.

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
    """The experiment in a spec file or a Katib manifest, its algorithm checked too.

    Args:
        config_maps: from a namespace and a name to the data of a ConfigMap, for a Katib manifest whose trials' template
            stands in one; ``katib_flow.argo.config_maps.in_cluster()`` asks the cluster of the kubeconfig.

    Raises:
        InvalidSpec: with every mistake found, each with its line.
        KatibFlowError: the file cannot be read, or is not YAML.
    """
    return read(path, config_maps=config_maps).experiment


def read(path: str | Path, further: Iterable[Rule] = (), config_maps: ConfigMaps = nobody) -> Parsed:
    """As ``load``, with what there is to tell about a Katib manifest, and with further rules."""
    return read_spec(path, [check_architecture, check_algorithm, check_stopping, *further], config_maps)


def checked(data: Mapping[str, Any], source: str = "") -> Experiment:
    """The experiment of plain data, its algorithm checked too.

    Raises:
        InvalidSpec: with every mistake found.
    """
    return Experiment.parse(data, source, [check_architecture, check_algorithm, check_stopping])


def _too_many(failed: int, allowed: int | None) -> str:
    return f"{failed} trial{'s' * (failed != 1)} failed; limits.max_failed_trials allows {allowed}"
