"""Suggestions that are derived again from a history, without a store: what differs, and what cannot be told."""

from dataclasses import replace
from typing import Any

import pytest

from katib_flow.basis import Indices
from katib_flow.errors import InvalidSpec
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import NOTHING, suggest
from katib_flow.replay import ABSENT, Difference, Replayed, replay
from tests import kit

TPE = {"name": "tpe", "seed": 3, "settings": {"startup": 4}}


def experiment(**changes: Any) -> Any:
    return kit.experiment(algorithm=TPE, limits={"max_trials": 40, "parallel_trials": 3}, **changes)


def ended(trial: Trial, state: State = State.SUCCEEDED) -> Trial:
    lr = trial.assignment["lr"]
    assert isinstance(lr, float)
    return replace(trial, state=state, observations={"accuracy": -abs(lr - 0.01)}, ended=100.0 + trial.index)


def played(of: Any, rounds: int = 12, earlier: History = NOTHING) -> History:
    """An asynchronous run of three workers: of what runs the newest ends first, and now and then it is killed."""
    history = History()
    for number in range(rounds):
        fresh = suggest(of, history, 3 - len(history.open()), earlier=earlier)
        history = history.replaced(Trial(one, State.RUNNING, started=99.0 + one.index) for one in fresh)
        state = State.KILLED if number % 5 == 4 else State.SUCCEEDED
        history = history.replaced([ended(history.open()[-1], state)])
    return history


@pytest.fixture(scope="module")
def history() -> History:
    return played(experiment())


def told(history: History, of: Any = None, **others: Any) -> dict[str, Replayed]:
    """What is not equal, by trial."""
    found = replay(of or experiment(), history, **others)
    assert [one.trial for one in found] == [trial.id for trial in history]
    return {one.trial: one for one in found if not one.equal}


def known(trial: Trial) -> Indices:
    assert trial.suggestion.basis is not None
    return trial.suggestion.basis.trials


def test_what_ran_asynchronously_is_derived_again_from_what_was_known(history):
    states = {state for trial in history for state, _ in trial.suggestion.basis.unfinished}
    assert states == {"killed", "running"}
    assert told(history) == {}


def test_the_order_in_which_trials_ended_matters_and_is_known(history):
    """Asked with every earlier trial as it ended, the algorithm answers otherwise: times alone would not do."""
    last = history[-1]
    all_over = replace(last.suggestion, basis=replace(last.suggestion.basis, unfinished=()))
    before = history.replaced(
        replace(ended(trial), observations={"accuracy": 1.0}) for trial in history[:-1] if not trial.state.over
    )
    found = told(before.replaced([replace(last, suggestion=all_over, started=999.0)]))
    assert {one for one in found if found[one].differences} == {last.id}


def test_a_trial_that_ran_again_later_has_a_result_that_those_before_did_not_know(history):
    rerun = [
        replace(trial, state=State.SUCCEEDED, observations={"accuracy": 1.0}, started=500.0, ended=501.0)
        for trial in history
        if not trial.state.over
    ]
    assert len(rerun) > 2
    assert told(history.replaced(rerun)) == {}


def test_a_result_that_was_changed_is_found_out_by_what_was_derived_from_it(history):
    over = next(trial for trial in history if trial.state.over)
    found = told(history.replaced([replace(over, observations={"accuracy": 5.0})]))
    assert found
    assert all(one.differences and not one.unclear for one in found.values())
    assert found.keys() <= {trial.id for trial in history if over.index in known(trial)}


@pytest.mark.parametrize(
    ("change", "field", "recorded"),
    [
        ({"assignment": {"lr": 0.123}}, "assignment.lr", 0.123),
        ({"budget": 3.0}, "budget", 3.0),
        ({"info": {"rung": 2}}, "info.rung", 2),
        ({"topology": {"schema": "topology/1"}}, "topology", {"schema": "topology/1"}),
    ],
)
def test_what_was_changed_of_a_suggestion_is_told_by_its_path(history, change, field, recorded):
    last = history[-1]
    edited = replace(last, suggestion=replace(last.suggestion, **change))
    derived = {"assignment.lr": last.assignment["lr"], "info.rung": ABSENT}.get(field)
    (found,) = told(history.replaced([edited])).values()
    assert found.differences == (Difference(field, recorded, derived),)


def test_a_whole_number_in_the_place_of_a_float_is_a_difference():
    of = experiment(parameters={"lr": {"type": "categorical", "values": [1.0, 2.5]}})
    history = History(tuple(Trial(one, State.RUNNING) for one in suggest(of, History(), 3)))
    whole = [
        replace(trial, suggestion=replace(trial.suggestion, assignment={"lr": 1}))
        for trial in history
        if trial.assignment["lr"] == 1.0
    ]
    assert told(history, of) == {}
    assert told(history.replaced(whole), of).keys() == {trial.id for trial in whole} != set()


def test_where_what_was_known_is_gone_no_difference_is_claimed(history):
    without = History(tuple(trial for trial in history if trial.index != 1))
    knew = {trial.id: len(known(trial)) for trial in without if 1 in known(trial)}
    assert knew
    assert {trial: one.unclear for trial, one in told(without).items()} == {
        trial: f"of {count} trials known when it was suggested, only {count - 1} are still recorded"
        for trial, count in knew.items()
    }


def test_a_trial_that_is_run_again_after_its_end_was_known_makes_it_unclear(history):
    over = next(trial for trial in history if trial.state.over)
    killed = told(history.replaced([replace(over, state=State.KILLED)]))
    assert {one.unclear for one in killed.values()} == {
        f"{over.id} had ended when it was suggested, but is recorded as not ended or as killed"
    }
    again = told(history.replaced([replace(over, observations={"accuracy": 5.0}, ended=900.0)]))
    assert {one.unclear for one in again.values()} == {f"it differs, but {over.id} ran again after this trial began"}


def test_what_says_nothing_of_what_was_known_cannot_be_told(history):
    bare = [replace(trial, suggestion=replace(trial.suggestion, basis=None)) for trial in history]
    found = told(History(tuple(bare)))
    assert len(found) == len(history)
    assert {one.unclear for one in found.values()} == {
        "the trials that were known when it was suggested are not recorded"
    }


@pytest.mark.parametrize(
    "claim",
    [
        {"count": 10**12},
        {"start": 90},
        {"unfinished": (("succeeded", Indices.from_sorted([0])),)},
        {"unfinished": (("sleeping", Indices.from_sorted([0])),)},
    ],
)
def test_what_cannot_have_been_known_is_said_at_once(history, claim):
    last = history[-1]
    edited = replace(last.suggestion, basis=replace(last.suggestion.basis, **claim))
    (found,) = told(history.replaced([replace(last, suggestion=edited)])).values()
    assert found.unclear == "the recorded trials that were known when it was suggested are inconsistent"


def test_earlier_experiments_that_have_gone_on_make_it_unclear_and_others_do_not():
    before = [ended(Trial(Suggestion(index, {"lr": 0.1 * (index + 1)}))) for index in range(8)]
    earlier, of = History(tuple(before)), experiment(warm_start=["before"])
    history = played(of, earlier=earlier)
    assert told(history, of, earlier=earlier, began=200.0) == {}
    more = History((*before, ended(Trial(Suggestion(8, {"lr": 0.9})))))
    other = told(history, of, earlier=more, began=200.0)
    assert {one.unclear for one in other.values()} == {
        "it differs, but the experiments of warm_start have continued since this one began"
    }
    edited = earlier.replaced([replace(before[0], observations={"accuracy": 5.0})])
    assert any(one.differences for one in told(history, of, earlier=edited, began=200.0).values())


def test_a_suggestion_that_the_algorithm_does_not_make_differs():
    parameters = {"k": {"type": "int", "min": 0, "max": 1}}
    of = kit.experiment(algorithm="grid", parameters=parameters, limits={"max_trials": 9, "parallel_trials": 3})
    first = suggest(of, History(), 3)
    assert len(first) == 2
    third = Suggestion(2, {"k": 0}, basis=first[0].basis)
    found = told(History(tuple(Trial(one) for one in (*first, third))), of)
    assert found["t00002"].differences == (Difference("suggestion", "t00002", ABSENT),)


def test_an_algorithm_that_is_not_here_is_told():
    with pytest.raises(InvalidSpec, match="did you mean"):
        replay(kit.experiment(algorithm="tpee"), History())
