"""The descent of an architecture: its ancestors, and the changes from each network to the next.

A trial descends from the first parent that its origin names: the trial it inherits from, the one it was derived from by
a change, or the segment of a supernet's search that chose it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Kind, Trial
from katib_flow.models.choices import reported_decisions
from katib_flow.models.edits import in_words
from katib_flow.models.topology import Topology
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.sections import Objective
from katib_flow.spec.space import Assignment
from katib_flow.trial.table import cell

NAMED = 8  # edges that are listed by name; the rest is only counted
_IDENTITY = ("identity", "skip")


@dataclass(frozen=True)
class Generation:
    """A network in a line of descent.

    Attributes:
        network: the network of the trial; for a segment of a supernet's search, the preferred one at its end.
        decided: its parameters and decisions.
        before: the network of the generation before.
        changes: the differences from that, in words.
        searched: True if it is the current result of a supernet's search, not a network trained by itself.
    """

    trial: Trial
    network: Topology | None
    decided: Assignment
    before: Topology | None = None
    changes: tuple[str, ...] = ()
    searched: bool = False


def origin(trial: Trial) -> int | None:
    """The index of a trial's first parent, if it has one."""
    return next(iter(trial.suggestion.origin.parents), None)


def lineage(history: History, trial: Trial) -> tuple[Trial, ...]:
    """The line from the oldest ancestor to a trial; if the whole search is one line, all of it."""
    by_index = {known.index: known for known in history}
    oldest, line = trial, {trial.index: trial}
    while (index := origin(oldest)) is not None and index in by_index and index not in line:
        oldest = line[index] = by_index[index]
    ended = [known for known in history if known.state.over and not known.state.failure]
    origins = [origin(known) for known in ended]
    if len(ended) > 1 and trial in ended and origins == [None, *(known.index for known in ended[:-1])]:
        return tuple(ended)
    return tuple(line.values())[::-1]


def improvements(objective: Objective, history: History) -> list[Trial]:
    """The trials that were better than all before them, in the order of their index."""
    best = float("inf")
    improved: list[Trial] = []
    for trial in history.completed(objective.metric):
        loss = objective.loss(trial.observations[objective.metric])
        if loss < best:
            best = loss
            improved.append(trial)
    return improved


def generations(experiment: Experiment, line: Sequence[Trial]) -> list[Generation]:
    """The networks of a line, each with its changes from the one before."""
    networks: list[Generation] = []
    for trial in line:
        generation = _generation(experiment, trial)
        if networks:
            before, changed = networks[-1].network, tuple(changes(networks[-1], generation))
            generation = replace(generation, before=before, changes=changed)
        networks.append(generation)
    return networks


def _generation(experiment: Experiment, trial: Trial) -> Generation:
    topology = network_of(trial)
    if topology is None or trial.suggestion.origin.kind is not Kind.SEGMENT:
        return Generation(trial, topology, trial.assignment)
    space = architectures(experiment)
    taken = next(iter(reported_decisions(space, trial)), {}) if space else {}
    decided = {**trial.assignment, **taken}
    try:
        return Generation(trial, space.topology(decided) if space and taken else None, decided, searched=True)
    except KatibFlowError:
        return Generation(trial, None, decided, searched=True)


def network_of(trial: Trial) -> Topology | None:
    """The topology of a trial; None if it has no valid one."""
    if trial.suggestion.topology is None:
        return None
    try:
        return Topology.parse(trial.suggestion.topology)
    except KatibFlowError:
        return None


def supernet_of(line: Iterable[Trial]) -> Topology | None:
    """The supernet that a line trained; None if it trained no supernet."""
    networks = (network_of(trial) for trial in line if trial.suggestion.origin.kind is Kind.SEGMENT)
    return next((network for network in networks if network is not None), None)


# differences, in words


def changes(before: Generation, after: Generation) -> Iterator[str]:
    """What changed from one generation to the next: edits, decisions and parameters, or edges; and the budget."""
    edits = after.network.edits if after.network is not None else ()
    yield from map(in_words, edits)
    decided = list(_decisions(before.decided, after.decided))
    yield from decided
    if not edits and not decided and before.network is not None and after.network is not None:
        yield from differences(before.network, after.network)
    old, new = before.trial.suggestion.budget, after.trial.suggestion.budget
    if old is not None and new is not None and old != new:
        yield f"budget: {old:g} → {new:g}"


def _decisions(old: Assignment, new: Assignment) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new or old[name] != new[name]:
            was, is_ = (cell(values[name]) if name in values else "(none)" for values in (old, new))
            yield f"{name}: {was} → {is_}"


def differences(before: Topology, after: Topology) -> Iterator[str]:
    """Edges that were removed, added or changed, by name."""
    old = {edge.key: edge for edge in before.flat.edges if edge.op not in _IDENTITY}
    new = {edge.key: edge for edge in after.flat.edges if edge.op not in _IDENTITY}
    gone, come = [key for key in old if key not in new], [key for key in new if key not in old]
    if gone:
        yield f"removed: {_named(gone)}"
    if come:
        yield f"new: {_named(come)}"
    other = [
        f"{key} ({', '.join(_changed(old[key], new[key]))})"
        for key in new
        if key in old and (old[key].op, old[key].params) != (new[key].op, new[key].params)
    ]
    if other:
        yield f"changed: {_named(other)}"


def _changed(old: Any, new: Any) -> Iterator[str]:
    if old.op != new.op:
        yield f"{old.op} → {new.op}"
    for name in dict.fromkeys([*old.params, *new.params]):
        if old.params.get(name) != new.params.get(name):
            yield f"{name}: {cell(old.params.get(name))} → {cell(new.params.get(name))}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
