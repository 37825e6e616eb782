"""Reproduce every recorded suggestion from the trials that were known before it, and list the differences.

A suggestion has its basis (``Suggestion.basis``): the request to the algorithm, which trials were known, and which of
them were not over. The reports of trials that were over are in the history, because they do not change any more. So
the order in which trials ended need not be guessed from times, and every difference has a cause: recorded data was
changed, or the algorithm, or a library that it uses, now computes something else.

If the trials that were known are no longer recorded, the suggestion is unclear rather than different. Nothing here
does I/O.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from katib_flow.basis import Basis
from katib_flow.errors import KatibFlowError
from katib_flow.history import History, Learnt, State, Suggestion, Trial
from katib_flow.loop import NOTHING, check_can_search, proposed
from katib_flow.spec.experiment import Experiment
from katib_flow.stopping.service import RULES
from katib_flow.wording import counted

ABSENT = "(absent)"
MOST_LEARNT = 8
"""Learned states to keep: suggestions that were made in parallel do not all continue from the latest state."""
_UNFINISHED = frozenset(str(state) for state in State if not state.over)


@dataclass(frozen=True)
class Difference:
    """A field of a suggestion with its recorded and its reproduced value; ABSENT for a missing one."""

    field: str
    recorded: Any
    derived: Any


@dataclass(frozen=True)
class Replayed:
    """The result for one suggestion.

    Attributes:
        trial: id of the trial.
        differences: the fields that were not reproduced.
        unclear: why the suggestion could not be compared; "" if it could.
    """

    trial: str
    differences: tuple[Difference, ...] = ()
    unclear: str = ""

    @property
    def equal(self) -> bool:
        """True if the suggestion was reproduced exactly."""
        return not self.differences and not self.unclear


def replay(
    experiment: Experiment, history: History, *, earlier: History = NOTHING, began: float = 0.0
) -> list[Replayed]:
    """Reproduce every suggestion of a history, in its order.

    Args:
        earlier: trials of earlier experiments in their present state.
        began: start of the experiment in seconds since the epoch.

    Raises:
        InvalidSpec: the algorithm is unknown, cannot search this experiment, or lacks a package on this machine.
    """
    check_can_search(experiment)
    batches: dict[Basis | None, list[Trial]] = {}
    for trial in history:
        batches.setdefault(trial.suggestion.basis, []).append(trial)
    again = _Replay(experiment, history, earlier, began)
    replayed = {one.trial: one for basis, batch in batches.items() for one in again.batch(basis, batch)}
    return [replayed[trial.id] for trial in history]


class _Replay:
    """One replay of an experiment."""

    def __init__(self, experiment: Experiment, history: History, earlier: History, began: float) -> None:
        self.experiment, self.history, self.earlier, self.began = experiment, history, earlier, began
        self.learnt: list[Learnt] = []  # from this replay, the newest first: states in the store are not trusted

    def batch(self, basis: Basis | None, batch: list[Trial]) -> list[Replayed]:
        """The results for suggestions that were made by one request."""
        if basis is None:
            why = "the trials that were known when it was suggested are not recorded"
            return [Replayed(trial.id, unclear=why) for trial in batch]
        known = [trial for trial in self.history if trial.index in basis.trials]
        if why := _impossible(self.experiment, basis, batch) or _lost(basis, known):
            return [Replayed(trial.id, unclear=why) for trial in batch]
        derived, failure = self._derived(basis, known)
        return [self._compared(trial, basis, known, derived.get(trial.id), failure) for trial in batch]

    def _derived(self, basis: Basis, known: list[Trial]) -> tuple[dict[str, Suggestion], str]:
        """The suggestions of the algorithm, by trial id, and its error; "" if it did not fail."""
        then = History(tuple(_as_it_was(trial, basis) for trial in known))
        try:
            answer = proposed(
                self.experiment, then, basis.count, start=basis.start, earlier=self.earlier, kept=self.learnt
            )
        except KatibFlowError as error:
            return {}, str(error)
        if answer.learnt:
            self.learnt = [answer.learnt, *self.learnt][:MOST_LEARNT]
        return {suggestion.id: suggestion for suggestion in answer.suggestions}, ""

    def _compared(
        self, trial: Trial, basis: Basis, known: list[Trial], derived: Suggestion | None, failure: str
    ) -> Replayed:
        if derived is None:
            nothing = f"{ABSENT}: {failure}" if failure else ABSENT
            differences = (Difference("suggestion", trial.id, nothing),)
        else:
            differences = tuple(_differences(_plain(trial.suggestion), _plain(derived), ""))
        if differences and (why := self._changed_since(trial, basis, known)):
            return Replayed(trial.id, unclear=why)
        return Replayed(trial.id, differences)

    def _changed_since(self, trial: Trial, basis: Basis, known: list[Trial]) -> str:
        """Why known trials may have changed since then without an edit; "" if they have not."""
        if len(self.earlier) != basis.earlier or any((one.ended or 0.0) > self.began for one in self.earlier):
            return "it differs, but the experiments of warm_start have continued since this one began"
        over = (one for one in known if basis.state_of(one.index) is None)
        later = [one.id for one in over if one.ended and trial.started and one.ended > trial.started]
        if later:
            return f"it differs, but {', '.join(later[:3])} ran again after this trial began"
        return ""


def _impossible(experiment: Experiment, basis: Basis, batch: list[Trial]) -> str:
    """Why the loop cannot have recorded such a basis, so that it must have been edited; "" if it can."""
    states = {state for state, _ in basis.unfinished}
    asked = range(basis.start, basis.start + basis.count)
    if (
        not states <= _UNFINISHED
        or basis.count > experiment.limits.parallel_trials
        or any(trial.index not in asked for trial in batch)
    ):
        return "the recorded trials that were known when it was suggested are inconsistent"
    return ""


def _lost(basis: Basis, known: list[Trial]) -> str:
    """Which of the known trials are no longer recorded as they were; "" if all are."""
    count = len(basis.trials)
    if len(known) != count:
        return f"of {counted(count, 'trial')} known when it was suggested, only {len(known)} are still recorded"
    rerun = [trial.id for trial in known if not trial.state.over and basis.state_of(trial.index) is None]
    if rerun:
        return f"{', '.join(rerun[:3])} had ended when it was suggested, but is recorded as not ended or as killed"
    return ""


def _as_it_was(trial: Trial, basis: Basis) -> Trial:
    """A trial as it was known then: without results if it was not over."""
    state = basis.state_of(trial.index)
    return trial if state is None else Trial(trial.suggestion, State(state))


def _differences(recorded: Any, derived: Any, path: str) -> Iterator[Difference]:
    """The parts in which two values of plain data differ, by their paths; ABSENT for a missing part."""
    if json.dumps(recorded, sort_keys=True) == json.dumps(derived, sort_keys=True):  # distinguishes 1, 1.0 and true
        return
    if isinstance(recorded, dict) and isinstance(derived, dict):
        before, now = cast(dict[str, Any], recorded), cast(dict[str, Any], derived)
        for name in dict.fromkeys([*before, *now]):
            at = f"{path}.{name}" if path else name
            yield from _differences(before.get(name, ABSENT), now.get(name, ABSENT), at)
    else:
        yield Difference(path, recorded, derived)


def _plain(suggestion: Suggestion) -> dict[str, Any]:
    """A suggestion as recorded data, without the parts that are not compared: its basis, and a service's rules."""
    info = {key: note for key, note in suggestion.info.items() if key != RULES}
    return json.loads(json.dumps(replace(suggestion, basis=None, info=info).to_dict()))
