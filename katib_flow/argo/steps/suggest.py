"""suggest: which trials an iteration starts, or which trial a lane does."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from katib_flow.argo.steps.context import Context, cut_short, judge
from katib_flow.argo.steps.fate import Connect, Fates
from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import History, Place, State, Suggestion, Trial
from katib_flow.tracking import Change, Control, Status

CUT_SHORT = "ended before it had finished"
NOT_STARTED = "not started: other lanes had started the last ones"
PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""For which a lane waits for others that want the last trials too."""


def suggest_iteration(context: Context, iteration: int) -> list[str]:
    """Ids of the trials of an iteration, recorded as pending; the same ids when it is asked again.

    Each trial says where it was started last, so an iteration that is recorded whole gives what it gave, whatever has
    ended since. One of which a part is recorded has given nothing yet: it is derived again from the history before it.
    """
    if not context.is_newest():
        return []
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    turn = (context.segment, iteration)
    mine = {trial.id: place for trial in history if (place := trial.place) and place.turn == turn}
    if store.given(record) >= turn:
        return list(mine)
    before = History(tuple(trial for trial in history if trial.id not in mine or trial.index < mine[trial.id].first))
    again = cut_short(before)
    before = before.replaced(replace(trial, state=State.KILLED) for trial in again)  # they take up no room yet
    verdict = judge(context, before, control)
    if control.pause or not verdict.may_start:
        store.set_given(record, *turn)
        return []
    again = again[: verdict.may_start]
    fresh = [Trial(suggestion) for suggestion in _asked(context, before, verdict.may_start - len(again))]
    place = Place(*turn, first=before.next_index)
    started = [replace(trial, place=place) for trial in [*map(_restarted, again), *fresh]]
    _begin(context, before)
    store.write(record, [Change(trial) for trial in started], lookup=True)
    store.set_given(record, *turn)
    return [trial.id for trial in started]


@dataclass(frozen=True)
class Turn:
    """What a lane does next.

    Attributes:
        trial: id of its next trial; None where the lane ends.
        hand_over: whether the next segment is to be created now, because no lane after this one should have to wait.
    """

    trial: str | None = None
    hand_over: bool = False


def suggest_lane(
    context: Context,
    iteration: int,
    lane: int,
    lanes: int,
    last: int,
    connect: Connect | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Turn:
    """A lane's next trial. Tell and ask in one: it closes the lane's earlier trials first.

    A lane's trials are those whose index, divided by the number of lanes, leaves the lane's number. The index of a
    new one follows from segment, iteration and lane, so lanes that ask at the same moment draw from different streams
    and no two write the same trial. Trials of the lane that were cut short are started again before a new one.

    Segments overlap: a lane goes on to the end of its segment though a later one is there, unless it is there already.

    Args:
        connect: where to ask what became of trials that nobody runs any more.

    Raises:
        ClusterError: it has not answered for a while.
    """
    newest = context.newest()
    history = context.store.history(context.record)
    index = ((context.segment * last) + iteration - 1) * lanes + lane
    place = Place(context.segment, iteration, lane, registered=time.time())
    if any(other and other.lane == lane and other.turn > place.turn for other in (trial.place for trial in history)):
        return Turn()
    found = _LaneTurn(context, index, lanes, place, connect, sleep).trial(history)
    if found is None or iteration < last or newest != context.segment:
        return Turn(found)
    return Turn(found, _began_first(context, found, last))


def _began_first(context: Context, trial_id: str, last: int) -> bool:
    """Whether no other lane began its last turn in this segment before the lane of a trial did.

    Every lane that asks has recorded its trial before, so the first of them all is told so, and told so again when its
    pod is tried again. Where clocks differ a second lane may be told so too; the next segment is created once anyway.
    """
    turns = [
        trial
        for trial in context.store.history(context.record)
        if trial.place
        and trial.place.turn == (context.segment, last)
        and trial.state is not State.KILLED  # others had started the last ones
    ]
    ids = [trial.id for trial in sorted(turns, key=_order)]
    return trial_id not in ids or ids[0] == trial_id


@dataclass(frozen=True)
class _LaneTurn:
    """One turn of a lane.

    Attributes:
        index: of the trial that is suggested in it, where none is started again.
        place: of the trial that the turn starts, be it new or started again.
    """

    context: Context
    index: int
    lanes: int
    place: Place
    connect: Connect | None
    sleep: Callable[[float], None]

    def trial(self, history: History) -> str | None:
        """Id of the trial that the lane runs now, recorded as pending; None where it has none to run."""
        context, control = self.context, self.context.store.control(self.context.record)
        mine = [trial for trial in history if trial.index % self.lanes == self.index % self.lanes]
        if own := next((trial for trial in mine if trial.place and trial.place.turn == self.place.turn), None):
            return None if own.state is State.KILLED else self._seated(own, control)
        left = [trial for trial in mine if not trial.state.final]
        closed = end(context, left, CUT_SHORT) if control.stop else end_dead(context, left, self.connect)
        history, own_ids = history.replaced(closed), {trial.id for trial in mine}
        again = next((trial for trial in cut_short(history) if trial.id in own_ids), None)
        history = history.replaced([replace(again, state=State.KILLED)] if again else [])  # it takes up no room yet
        verdict = judge(context, history, control)
        if control.pause or not verdict.may_start:
            return None
        _begin(context, history)
        trial = self._again(again) if again else self._new(history)
        return self._seated(trial, control) if trial else None

    def _again(self, trial: Trial) -> Trial:
        """A trial that was cut short, recorded as started once more."""
        change = Change(replace(_restarted(trial), place=self.place))
        return self.context.store.write(self.context.record, [change])[0]

    def _new(self, history: History) -> Trial | None:
        """A new trial, recorded as pending; None where the algorithm has nothing more to suggest."""
        fresh = _asked(self.context, history, 1, start=self.index)
        changes = [Change(Trial(suggestion, place=self.place)) for suggestion in fresh]
        return next(iter(self.context.store.write(self.context.record, changes, lookup=True)), None)

    def _seated(self, trial: Trial, control: Control) -> str | None:
        """Id of a recorded trial where it may start; None where it is one more than there may be, and taken back.

        Each lane records its trial first and counts the others afterwards. Of any two lanes, at least the one that
        recorded last sees the other's, however late a record arrives: so no two start what there is room for once. Of
        several that see each other, those that come first in an order which is the same for all of them wait, and the
        others take theirs back.
        """
        maximum, waited = control.most_trials(self.context.experiment), 0.0
        while maximum is not None and trial.state is State.PENDING:
            history = self.context.store.history(self.context.record)
            others = [each for each in history if each.state is not State.KILLED and each.id != trial.id]
            if len(others) < maximum:
                break
            first = [each for each in others if each.state is not State.PENDING or _order(each) < _order(trial)]
            if len(first) >= maximum or waited >= PATIENCE_SECONDS:
                end(self.context, [trial], NOT_STARTED)
                return None
            self.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
        return trial.id


def close(
    context: Context, history: History, trials: Iterable[Trial], control: Control, connect: Connect | None
) -> History:
    """Close open trials that nobody runs any more: those that died have failed, the others were cut short.

    Raises:
        ClusterError: what became of them cannot be asked now.
    """
    trials = list(trials)
    failed = [] if control.stop else end_dead(context, trials, connect)
    dead = {trial.id for trial in failed}
    return history.replaced([*failed, *end(context, [each for each in trials if each.id not in dead], CUT_SHORT)])


def end_dead(context: Context, trials: Sequence[Trial], connect: Connect | None) -> list[Trial]:
    """Record as failed those of the open trials whose pods have died; the others were cut short, and stay open."""
    fates = Fates(context, connect)
    reasons = {trial.id: fates.died_of(trial) for trial in trials}
    return [
        failed for trial in trials if (why := reasons[trial.id]) for failed in end(context, [trial], why, State.FAILED)
    ]


def end(context: Context, trials: Sequence[Trial], message: str, state: State = State.KILLED) -> list[Trial]:
    """Record the end of trials that can no longer do it themselves."""
    changes = [Change(replace(trial, state=state, message=message, ended=time.time())) for trial in trials]
    return context.store.write(context.record, changes) if changes else []


def _order(trial: Trial) -> tuple[float, str]:
    """By when lanes recorded their trials, as far as their clocks tell: an order that is the same for all of them."""
    return (trial.place.registered if trial.place else 0.0), trial.id


def _restarted(trial: Trial) -> Trial:
    """A trial that was cut short, as it is when it is started again; one that was left open stays as it is."""
    if trial.state is not State.KILLED:
        return trial
    return replace(trial, state=State.PENDING, started=None, ended=None, message="", observations={}, series={})


def _asked(context: Context, history: History, n: int, start: int | None = None) -> list[Suggestion]:
    """Suggestions; an algorithm that cannot go on ends the experiment, and MLflow says why."""
    try:
        suggestions = context.proposed(history, n, start) if n > 0 else []
        return context.with_stopping_rules(history, suggestions)
    except TrackingError:
        raise
    except KatibFlowError as error:
        context.store.summarise(context.record, history, Status.FAILED, str(error))
        raise


def _begin(context: Context, history: History) -> None:
    """An experiment that was paused, stopped or failed runs again."""
    if context.record.status is not Status.RUNNING:
        context.store.summarise(context.record, history, Status.RUNNING)
