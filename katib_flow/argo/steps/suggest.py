"""suggest: which trials an iteration starts, or which trial a lane does."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from katib_flow.argo.steps.context import Context, cut_short, judge
from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import proposed
from katib_flow.tracking import Change, Control, Status

CUT_SHORT = "ended before it had finished"
DIED = "its pod ended without a result: out of memory, over its deadline, or lost more often than limits.retries allows"


def suggest_iteration(context: Context, iteration: int) -> list[str]:
    """Ids of the trials of an iteration, recorded as pending; the same ids when it is asked again.

    It looks at the history as it was before this iteration, so what its own first run recorded changes nothing.
    """
    if not context.is_newest():
        return []
    store, record = context.store, context.record
    history, control = store.history(record), store.control(record)
    mine = {trial.id: trial for trial in history if _place(trial) == (context.segment, iteration)}
    before = History(tuple(trial for trial in history if trial.id not in mine))
    again = cut_short(before)
    before = before.replaced(replace(trial, state=State.KILLED) for trial in again)  # they take up no room yet
    verdict = judge(context, before, control)
    if control.pause or not verdict.may_start:
        return []
    again = again[: verdict.may_start]
    marks = {"segment": context.segment, "iteration": iteration}
    fresh = [_marked(each, marks) for each in _asked(context, before, verdict.may_start - len(again))]
    new = [Trial(suggestion) for suggestion in fresh if suggestion.id not in mine]
    restarted = [_pending(trial) for trial in again if trial.state is State.KILLED]
    _begin(context, before)
    store.write(record, [Change(trial) for trial in [*restarted, *new]], lookup=True)
    return [*(trial.id for trial in again), *(suggestion.id for suggestion in fresh)]


@dataclass(frozen=True)
class Turn:
    """What a lane does next.

    Attributes:
        trial: id of its next trial; None where the lane ends.
        hand_over: whether the next segment is to be created now, because no lane after this one should have to wait.
    """

    trial: str | None = None
    hand_over: bool = False


def suggest_lane(context: Context, iteration: int, lane: int, lanes: int, last: int) -> Turn:
    """A lane's next trial. Tell and ask in one: it closes the lane's earlier trials first.

    The index follows from segment, iteration and lane, so lanes that ask at the same moment draw from different streams
    and no two write the same trial. Killed trials are not started again: new ones take their place.

    Segments overlap: a lane goes on to the end of its segment though a later one is there, unless it is there already.
    """
    newest = context.newest()
    history = context.store.history(context.record)
    index = ((context.segment * last) + iteration - 1) * lanes + lane
    if any(trial.index > index and trial.index % lanes == lane for trial in history):
        return Turn()
    found = _lane_trial(context, history, index, lanes, {"iteration": iteration, "lane": lane})
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
        if trial.suggestion.info.get("segment") == context.segment
        and trial.suggestion.info.get("iteration") == last
        and trial.state is not State.KILLED  # others had started the last ones
    ]
    first = min(turns, key=_registered, default=None)
    return first is not None and first.id == trial_id


def _lane_trial(context: Context, history: History, index: int, lanes: int, place: Mapping[str, object]) -> str | None:
    store, record = context.store, context.record
    control, lane = store.control(record), index % lanes
    left = (trial for trial in history.open() if trial.index < index and trial.index % lanes == lane)
    history = close(context, history, left, control)
    if mine := next((trial for trial in history if trial.index == index), None):
        return None if mine.state is State.KILLED else mine.id
    verdict = judge(context, history, control)
    if control.pause or not verdict.may_start:
        return None
    marks = {"segment": context.segment, **place, "registered": time.time()}
    fresh = [_marked(each, marks) for each in _asked(context, history, 1, start=index)]
    _begin(context, history)
    trials = store.write(record, [Change(Trial(suggestion)) for suggestion in fresh], lookup=True)
    return trials[0].id if trials and not _withdrawn(context, trials[0], control) else None


def close(context: Context, history: History, trials: Iterable[Trial], control: Control) -> History:
    """Close open trials whose pods are gone for good: killed where a stop was asked for, else failed."""
    state, message = (State.KILLED, CUT_SHORT) if control.stop else (State.FAILED, DIED)
    return history.replaced(end(context, trials, state, message))


def end(context: Context, trials: Iterable[Trial], state: State, message: str) -> list[Trial]:
    """Record the end of trials that can no longer do it themselves."""
    changes = [Change(replace(trial, state=state, message=message, ended=time.time())) for trial in trials]
    return context.store.write(context.record, changes) if changes else []


def _withdrawn(context: Context, trial: Trial, control: Control) -> bool:
    """Take a trial back where others were registered before it and it is one more than there may be."""
    maximum = control.most_trials(context.experiment)
    if maximum is None:
        return False
    counted = [each for each in context.store.history(context.record) if each.state is not State.KILLED]
    if len(counted) <= maximum or sum(_registered(each) < _registered(trial) for each in counted) < maximum:
        return False
    end(context, [trial], State.KILLED, "not started: other lanes had started the last ones")
    return True


def _registered(trial: Trial) -> tuple[float, str]:
    """When a lane recorded the trial; what sorts all of them the same way for every lane."""
    at = trial.suggestion.info.get("registered", 0.0)
    return (at if isinstance(at, float) else 0.0), trial.id


def _place(trial: Trial) -> tuple[object, object]:
    return trial.suggestion.info.get("segment"), trial.suggestion.info.get("iteration")


def _marked(suggestion: Suggestion, marks: Mapping[str, object]) -> Suggestion:
    return replace(suggestion, info={**suggestion.info, **marks})


def _pending(trial: Trial) -> Trial:
    return replace(trial, state=State.PENDING, started=None, ended=None, message="", observations={}, series={})


def _asked(context: Context, history: History, n: int, start: int | None = None) -> list[Suggestion]:
    """Suggestions; an algorithm that cannot go on ends the experiment, and MLflow says why."""
    try:
        return proposed(context.experiment, history, n, start=start, earlier=context.earlier) if n > 0 else []
    except TrackingError:
        raise
    except KatibFlowError as error:
        context.store.summarise(context.record, history, Status.FAILED, str(error))
        raise


def _begin(context: Context, history: History) -> None:
    """An experiment that was paused, stopped or failed runs again."""
    if context.record.status is not Status.RUNNING:
        context.store.summarise(context.record, history, Status.RUNNING)
