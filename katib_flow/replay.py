"""Derive every recorded suggestion again from what was known before it, and say where they differ.

A suggestion says what it was derived from (``Suggestion.basis``): what the algorithm was asked, which trials were
known, and which of them were not over. What a trial that was over had reported is in the history, since it does not
change any more. So the order in which trials ended need not be guessed from times, and a difference is one: something
that is recorded was changed, or the algorithm, or a library that it uses, computes something else than it did.

Where what was known is not there any more, this is said, and no difference is claimed. Nothing here does I/O.
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

ABSENT = "(absent)"
MOST_LEARNT = 8
"""Lessons that are kept to go on from: of suggestions that were made side by side, one need not follow another."""
_UNFINISHED = frozenset(str(state) for state in State if not state.over)


@dataclass(frozen=True)
class Difference:
    """One thing that was recorded of a suggestion, and what was derived in its place; ABSENT where there is nothing."""

    field: str
    recorded: Any
    derived: Any


@dataclass(frozen=True)
class Replayed:
    """What became of one suggestion.

    Attributes:
        differences: where it was derived again and is not what was recorded.
        unclear: why it cannot be told whether it is; "" where it can.
    """

    trial: str
    differences: tuple[Difference, ...] = ()
    unclear: str = ""

    @property
    def equal(self) -> bool:
        return not self.differences and not self.unclear


def replay(
    experiment: Experiment, history: History, *, earlier: History = NOTHING, began: float = 0.0
) -> list[Replayed]:
    """Every suggestion of a history, derived again; in the order of the history.

    Args:
        earlier: trials of earlier experiments, as they stand now.
        began: when the experiment began, in seconds since the epoch.

    Raises:
        InvalidSpec: the algorithm is unknown, or cannot be asked on this machine.
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
        self.learnt: list[Learnt] = []  # here, the newest first: what is kept in the store is not believed

    def batch(self, basis: Basis | None, batch: list[Trial]) -> list[Replayed]:
        """What became of suggestions that were made at once."""
        if basis is None:
            why = "what was known when it was suggested is not recorded"
            return [Replayed(trial.id, unclear=why) for trial in batch]
        known = [trial for trial in self.history if trial.index in basis.trials]
        if why := _impossible(self.experiment, basis, batch) or _lost(basis, known):
            return [Replayed(trial.id, unclear=why) for trial in batch]
        derived, failure = self._derived(basis, known)
        return [self._compared(trial, basis, known, derived.get(trial.id), failure) for trial in batch]

    def _derived(self, basis: Basis, known: list[Trial]) -> tuple[dict[str, Suggestion], str]:
        """What the algorithm suggests, by trial id, and why it suggests nothing where it fails."""
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
        """Why what was known may be other than what is recorded, though nobody edited it; "" where it is the same."""
        if len(self.earlier) != basis.earlier or any((one.ended or 0.0) > self.began for one in self.earlier):
            return "it differs, but the experiments that it starts from have gone on since this one began"
        over = (one for one in known if basis.state_of(one.index) is None)
        later = [one.id for one in over if one.ended and trial.started and one.ended > trial.started]
        if later:
            return (
                f"it differs, but {', '.join(later[:3])}, whose end was known, ended after it had begun: it ran again"
            )
        return ""


def _impossible(experiment: Experiment, basis: Basis, batch: list[Trial]) -> str:
    """Why a basis is none that the loop has recorded, which somebody may have edited; "" where it may be one."""
    states = {state for state, _ in basis.unfinished}
    asked = range(basis.start, basis.start + basis.count)
    if (
        not states <= _UNFINISHED
        or basis.count > experiment.limits.parallel_trials
        or any(trial.index not in asked for trial in batch)
    ):
        return "what is recorded as known when it was suggested cannot be true"
    return ""


def _lost(basis: Basis, known: list[Trial]) -> str:
    """What of that which was known is recorded no longer; "" where all is."""
    count = len(basis.trials)
    if len(known) != count:
        return f"{count} trials were known when it was suggested, and of these {len(known)} are recorded"
    rerun = [trial.id for trial in known if not trial.state.over and basis.state_of(trial.index) is None]
    if rerun:
        return f"{', '.join(rerun[:3])} had ended when it was suggested, and is recorded as not ended, or as killed"
    return ""


def _as_it_was(trial: Trial, basis: Basis) -> Trial:
    """A trial as it was known: one that was not over had no result yet."""
    state = basis.state_of(trial.index)
    return trial if state is None else Trial(trial.suggestion, State(state))


def _differences(recorded: Any, derived: Any, path: str) -> Iterator[Difference]:
    """Where two values of plain data differ, by the path of each part; ABSENT stands for a part that is not there."""
    if json.dumps(recorded, sort_keys=True) == json.dumps(derived, sort_keys=True):  # tells 1, 1.0 and true apart
        return
    if isinstance(recorded, dict) and isinstance(derived, dict):
        before, now = cast(dict[str, Any], recorded), cast(dict[str, Any], derived)
        for name in dict.fromkeys([*before, *now]):
            at = f"{path}.{name}" if path else name
            yield from _differences(before.get(name, ABSENT), now.get(name, ABSENT), at)
    else:
        yield Difference(path, recorded, derived)


def _plain(suggestion: Suggestion) -> dict[str, Any]:
    """What is compared, as it is once it was recorded; the rules of a service are no part of what was suggested."""
    info = {key: note for key, note in suggestion.info.items() if key != RULES}
    return json.loads(json.dumps(replace(suggestion, basis=None, info=info).to_dict()))
