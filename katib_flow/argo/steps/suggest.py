"""suggest: choose the trials that an iteration starts, or the next trial of a lane."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from katib_flow.argo.steps.context import Context, cut_short, judge
from katib_flow.argo.steps.fate import Connect, Fates
from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import History, Position, State, Suggestion, Trial
from katib_flow.tracking import Change, Control, Status
from katib_flow.trial.outcome import CUT_SHORT

NOT_STARTED = "not started: other lanes started the last trials"
PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
"""How long a lane waits for other lanes that compete for the last trials."""


def suggest_iteration(context: Context, iteration: int) -> list[str]:
    """Record the trials of an iteration as pending and return their ids; a retry returns the same ids.

    Each trial records where it was last started, so an iteration that was recorded completely returns the same trials
    even if some have ended since. One that was recorded in part is derived again from the history before it.
    """
    if not context.is_newest():
        return []
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    turn = (context.segment, iteration)
    mine = {trial.id: start for trial in history if (start := trial.position) and start.turn == turn}
    if store.given(record) >= turn:
        return list(mine)
    before = History(tuple(trial for trial in history if trial.id not in mine or trial.index < mine[trial.id].first))
    restarts = cut_short(before)
    before = before.replaced(replace(trial, state=State.KILLED) for trial in restarts)  # they hold no slot yet
    verdict = judge(context, before, control)
    if control.pause or not verdict.may_start:
        store.set_given(record, *turn)
        return []
    restarts = restarts[: verdict.may_start]
    fresh = [Trial(suggestion) for suggestion in _suggestions(context, before, verdict.may_start - len(restarts))]
    start = Position(*turn, first=before.next_index)
    started = [replace(trial, position=start) for trial in [*map(_restarted, restarts), *fresh]]
    _begin(context, before)
    store.write(record, [Change(trial) for trial in started], lookup=True)
    store.set_given(record, *turn)
    return [trial.id for trial in started]


@dataclass(frozen=True)
class Turn:
    """The next turn of a lane.

    Attributes:
        trial: id of the lane's next trial; None if the lane ends.
        hand_over: whether to create the next segment now, so that no lane has to wait for it.
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
    """Close a lane's earlier trials, and record and return its next one.

    A lane owns the trials whose index modulo the number of lanes is the lane's number. The index of a new trial follows
    from segment, iteration and lane, so lanes that ask at the same moment draw from different random streams, and no
    two lanes write the same trial. Trials of the lane that were cut short are restarted before a new one is suggested.

    Segments overlap: a lane continues to the end of its segment even if a later segment exists, unless this lane runs
    in the later one already.

    Args:
        context: the experiment.
        iteration: number of the turn in the segment, from 1.
        lane: number of the lane, from 0.
        lanes: number of lanes.
        last: number of turns per segment.
        connect: opens the cluster, to find out why trials recorded no end.
        sleep: called with each pause in seconds.

    Raises:
        ClusterError: the cluster did not answer for as long as the step tried.
    """
    newest = context.newest()
    history = context.store.history(context.record)
    index = ((context.segment * last) + iteration - 1) * lanes + lane
    start = Position(context.segment, iteration, lane, registered=time.time())
    if any(other and other.lane == lane and other.turn > start.turn for other in (trial.position for trial in history)):
        return Turn()
    trial_id = _LaneTurn(context, index, lanes, start, connect, sleep).trial(history)
    if trial_id is None or iteration < last or newest != context.segment:
        return Turn(trial_id)
    return Turn(trial_id, _began_first(context, trial_id, last))


def _began_first(context: Context, trial_id: str, last: int) -> bool:
    """Whether the lane of a trial was the first to begin its last turn in this segment.

    Each lane records its trial before it asks, so the first lane gets True, also when its pod is retried. If clocks
    differ, a second lane may get True as well, which is harmless: the next segment is created only once.
    """
    turns = [
        trial
        for trial in context.store.history(context.record)
        if trial.position
        and trial.position.turn == (context.segment, last)
        and trial.state is not State.KILLED  # not NOT_STARTED
    ]
    ids = [trial.id for trial in sorted(turns, key=_order)]
    return trial_id not in ids or ids[0] == trial_id


@dataclass(frozen=True)
class _LaneTurn:
    """One turn of a lane.

    Attributes:
        index: index of the trial that the turn suggests if it restarts none.
        start: where and when the turn's trial is started.
    """

    context: Context
    index: int
    lanes: int
    start: Position
    connect: Connect | None
    sleep: Callable[[float], None]

    def trial(self, history: History) -> str | None:
        """Record the lane's next trial as pending and return its id; None if the lane has no trial to run."""
        context, control = self.context, self.context.store.control(self.context.record)
        mine = [trial for trial in history if trial.index % self.lanes == self.index % self.lanes]
        if own := next((trial for trial in mine if trial.position and trial.position.turn == self.start.turn), None):
            return None if own.state is State.KILLED else self._admitted(own, control)
        unfinished = [trial for trial in mine if not trial.state.final]
        closed = end(context, unfinished, CUT_SHORT) if control.stop else end_dead(context, unfinished, self.connect)
        history, own_ids = history.replaced(closed), {trial.id for trial in mine}
        restart = next((trial for trial in cut_short(history) if trial.id in own_ids), None)
        history = history.replaced([replace(restart, state=State.KILLED)] if restart else [])  # it holds no slot yet
        verdict = judge(context, history, control)
        if control.pause or not verdict.may_start:
            return None
        _begin(context, history)
        trial = self._restart(restart) if restart else self._new(history)
        return self._admitted(trial, control) if trial else None

    def _restart(self, trial: Trial) -> Trial:
        """Record a trial that was cut short as started again."""
        change = Change(replace(_restarted(trial), position=self.start))
        return self.context.store.write(self.context.record, [change])[0]

    def _new(self, history: History) -> Trial | None:
        """Record a new trial as pending; return None if the algorithm has nothing more to suggest."""
        fresh = _suggestions(self.context, history, 1, start=self.index)
        changes = [Change(Trial(suggestion, position=self.start)) for suggestion in fresh]
        return next(iter(self.context.store.write(self.context.record, changes, lookup=True)), None)

    def _admitted(self, trial: Trial, control: Control) -> str | None:
        """Return the id of a recorded trial if it may start; otherwise withdraw the trial and return None.

        Each lane records its trial first and counts the others' afterwards. Of any two lanes, at least the one that
        recorded last sees the other's trial, however late a record arrives, so the last slot is never taken twice. If
        several lanes see each other, those that come first in an order common to all lanes wait, and the others
        withdraw their trials.
        """
        maximum, waited = control.most_trials(self.context.experiment), 0.0
        while maximum is not None and trial.state is State.PENDING:
            history = self.context.store.history(self.context.record)
            others = [other for other in history if other.state is not State.KILLED and other.id != trial.id]
            if len(others) < maximum:
                break
            ahead = [other for other in others if other.state is not State.PENDING or _order(other) < _order(trial)]
            if len(ahead) >= maximum or waited >= PATIENCE_SECONDS:
                end(self.context, [trial], NOT_STARTED)
                return None
            self.sleep(PAUSE_SECONDS)
            waited += PAUSE_SECONDS
        return trial.id


def close(
    context: Context, history: History, trials: Iterable[Trial], control: Control, connect: Connect | None
) -> History:
    """Close open trials that no pod runs any more: as failed if their pods died, as killed if they were cut short.

    Returns:
        The history with the closed trials.

    Raises:
        ClusterError: the cluster did not answer for as long as the step tried.
    """
    trials = list(trials)
    failed = [] if control.stop else end_dead(context, trials, connect)
    dead = {trial.id for trial in failed}
    return history.replaced([*failed, *end(context, [trial for trial in trials if trial.id not in dead], CUT_SHORT)])


def end_dead(context: Context, trials: Sequence[Trial], connect: Connect | None) -> list[Trial]:
    """Record open trials whose pods died as failed and return them; trials that were cut short stay open."""
    fates = Fates(context, connect)
    reasons = {trial.id: fates.died_of(trial) for trial in trials}
    return [
        failed for trial in trials if (why := reasons[trial.id]) for failed in end(context, [trial], why, State.FAILED)
    ]


def end(context: Context, trials: Sequence[Trial], message: str, state: State = State.KILLED) -> list[Trial]:
    """Record the end of trials whose pods can no longer do so."""
    changes = [Change(replace(trial, state=state, message=message, ended=time.time())) for trial in trials]
    return context.store.write(context.record, changes) if changes else []


def _order(trial: Trial) -> tuple[float, str]:
    """Return a sort key, the time at which a lane recorded a trial, that orders trials the same in all lanes."""
    return (trial.position.registered if trial.position else 0.0), trial.id


def _restarted(trial: Trial) -> Trial:
    """Reset a killed trial to pending; a trial that was left open stays as it is."""
    if trial.state is not State.KILLED:
        return trial
    return replace(trial, state=State.PENDING, started=None, ended=None, message="", observations={}, series={})


def _suggestions(context: Context, history: History, n: int, start: int | None = None) -> list[Suggestion]:
    """Ask for suggestions. If the algorithm fails, record in MLflow that the experiment failed, and why."""
    try:
        suggestions = context.proposed(history, n, start) if n > 0 else []
        return context.with_stopping_rules(history, suggestions)
    except TrackingError:
        raise
    except KatibFlowError as error:
        context.store.summarise(context.record, history, Status.FAILED, str(error))
        raise


def _begin(context: Context, history: History) -> None:
    """Record that an experiment that was paused, stopped or failed is running again."""
    if context.record.status is not Status.RUNNING:
        context.store.summarise(context.record, history, Status.RUNNING)
