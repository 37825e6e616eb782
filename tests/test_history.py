"""The facts of an experiment: in order, frozen, and nothing but finite numbers observed."""

import json
import math
from collections import Counter
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import scalars

from katib_flow.history import History, Kind, Metric, Origin, State, Suggestion, Trial, continued


def trial(index: int, state: State = State.SUCCEEDED, **observed: float) -> Trial:
    return Trial(Suggestion(index, {"lr": 0.1}), state, observed)


@given(st.permutations(range(8)))
def test_trials_are_in_the_order_of_their_index(order):
    assert [each.index for each in History(tuple(trial(index) for index in order))] == list(range(8))


def test_trials_of_one_index_are_in_the_order_of_their_id():
    one, other = (Trial(Suggestion(0, {}, key=key)) for key in ("b", "a"))
    assert [each.id for each in History((one, other))] == ["a", "b"]


@given(st.permutations([trial(index, state, loss=index) for index, state in enumerate(State)]))
def test_histories_of_the_same_trials_are_equal(order):
    assert History(tuple(order)) == History(tuple(reversed(order)))


def test_a_history_is_a_sequence():
    history = History(tuple(trial(index) for index in range(5)))
    assert (len(history), history[0].index, history[-1].index) == (5, 0, 4)
    assert [each.index for each in history[1:3]] == [1, 2]
    assert trial(3) in history


@pytest.mark.parametrize(("indices", "following"), [((), 0), ((0,), 1), ((7, 3), 8)])
def test_the_next_index_follows_the_largest(indices, following):
    assert History(tuple(trial(index) for index in indices)).next_index == following


@pytest.mark.parametrize("state", State)
def test_two_states_are_open_and_five_are_final(state):
    assert state.final == (state.value not in ("pending", "running"))
    assert bool(History((trial(0, state),)).open()) == (not state.final)


@pytest.mark.parametrize("state", State)
def test_two_states_are_failures(state):
    assert state.failure == (state.value in ("failed", "metrics-unavailable"))


@given(st.lists(st.sampled_from(State)))
def test_counts_are_by_state(states):
    history = History(tuple(trial(index, state) for index, state in enumerate(states)))
    assert history.counts() == Counter(states)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_observed(value):
    assert trial(0, loss=value).observed("loss") is None


@pytest.mark.parametrize("state", State)
def test_a_value_is_observed_of_a_trial_that_ended_well(state):
    well = state in (State.SUCCEEDED, State.EARLY_STOPPED)
    assert trial(0, state, loss=0.0).observed("loss") == (0.0 if well else None)


def test_a_metric_that_was_not_reported_is_not_observed():
    assert trial(0, loss=1.0).observed("accuracy") is None


def test_completed_trials_have_every_metric_asked_for():
    history = History(
        (trial(0, a=1.0, b=2.0), trial(1, a=1.0), trial(2, a=1.0, b=math.nan), trial(3, State.FAILED, a=1.0))
    )
    assert [each.index for each in history.completed()] == [0, 1, 2]
    assert [each.index for each in history.completed("a")] == [0, 1, 2]
    assert [each.index for each in history.completed("a", "b")] == [0]


def test_a_trial_takes_the_place_of_the_one_with_its_id():
    history = History((trial(0, State.RUNNING), trial(1)))
    changed = history.replaced([trial(0, loss=1.0), trial(2)])
    assert [(each.index, each.state) for each in changed] == [(index, State.SUCCEEDED) for index in range(3)]
    assert history[0].state is State.RUNNING


@pytest.mark.parametrize(
    ("suggestion", "name"), [(Suggestion(7, {}), "t00007"), (Suggestion(7, {}, key="s1-i2"), "s1-i2")]
)
def test_a_suggestion_is_named_by_its_key_or_its_index(suggestion, name):
    assert (suggestion.id, Trial(suggestion).id) == (name, name)


def test_ids_sort_like_the_indices():
    ids = [Suggestion(index, {}).id for index in (0, 9, 10, 99_999)]
    assert ids == sorted(ids)


@given(
    st.builds(
        Suggestion,
        index=st.integers(0),
        assignment=st.dictionaries(st.text(), scalars),
        budget=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        parent=st.none() | st.integers(0),
        topology=st.none() | st.dictionaries(st.text(), scalars),
        info=st.dictionaries(st.text(), scalars),
        key=st.from_regex(r"([a-z0-9][a-z0-9-]{0,20})?", fullmatch=True),
        origin=st.builds(Origin, st.sampled_from(Kind), *[st.lists(st.integers(0)).map(tuple)] * 2),
    )
)
def test_a_suggestion_survives_json_with_its_types(suggestion):
    back = Suggestion.from_dict(json.loads(json.dumps(suggestion.to_dict())))
    assert back == suggestion
    assert [type(value) for value in back.assignment.values()] == [
        type(value) for value in suggestion.assignment.values()
    ]


@pytest.mark.parametrize("fact", [Metric("a", 1.0), Suggestion(0, {}), trial(0), History()])
def test_facts_are_frozen(fact):
    field = next(iter(type(fact).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(fact, field, None)
    assert replace(fact) == fact


def told(values: dict[int, float], name: str = "loss") -> list[Metric]:
    return [Metric(name, value, step) for step, value in values.items()]


def test_what_a_later_try_reports_takes_the_place_of_what_earlier_ones_did_from_there_on():
    first, second = told({0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3}), told({2: 1.2, 3: 1.3, 4: 1.4})
    assert continued([*first, *second], told({4: 2.4, 5: 2.5})) == told(
        {0: 0.0, 1: 0.1, 2: 1.2, 3: 1.3, 4: 2.4, 5: 2.5}
    )
    assert continued(first, told({0: 9.0, 1: 9.1})) == told({0: 9.0, 1: 9.1})  # it began anew, and ended sooner
    assert continued(first, []) == first  # it had nothing left to do
    twice = [*told({0: 1.0}), *told({0: 2.0})]
    assert continued([], twice) == twice  # one try may say of a step what it likes


def test_each_metric_goes_on_from_where_its_own_last_try_began():
    earlier = [*told({0: 0.0, 4: 0.4}), *told({0: 5.0, 4: 5.4}, "accuracy")]
    later = told({3: 1.3})
    assert continued(earlier, later) == [*told({0: 0.0}), *told({0: 5.0, 4: 5.4}, "accuracy"), *later]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_run_that_was_cut_off_anywhere_and_went_on_from_anywhere_before_looks_as_if_it_never_was(end, cut, start):
    start, cut = sorted((start, cut))
    whole = told({step: step / 10 for step in range(end + 1)})
    assert continued(whole[:cut], whole[start:]) == whole or start > end


@pytest.mark.parametrize(
    ("parent", "origin", "wanted"),
    [
        (None, Origin(), Origin()),
        (3, Origin(), Origin(Kind.MODIFY, (3,))),
        (3, Origin(Kind.MODIFY, (5,), (1,)), Origin(Kind.MODIFY, (3, 5), (1,))),
        (3, Origin(Kind.MODIFY, (5, 3)), Origin(Kind.MODIFY, (5, 3))),
        (3, Origin(Kind.SEGMENT), Origin(Kind.SEGMENT, (3,))),
        (None, Origin(Kind.GENERATE, (1,)), Origin(Kind.GENERATE, (1,))),
    ],
)
def test_what_inherits_from_a_trial_is_made_of_it(parent, origin, wanted):
    suggestion = Suggestion(9, {}, parent=parent, origin=origin)
    assert suggestion.origin == wanted
    assert Suggestion.from_dict(json.loads(json.dumps(suggestion.to_dict()))) == suggestion


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"assignment": [1]}, "assignment: found"),
        ({"assignment": "x"}, "assignment: found 'x', need a mapping"),
        ({"assignment": {"lr": [1]}}, "assignment.lr: found"),
        ({"assignment": {"lr": math.nan}}, "assignment.lr: found nan, need text, a finite number"),
        ({"budget": "9"}, "budget: found '9', need a finite number"),
        ({"budget": True}, "budget: found True"),
        ({"parent": "x"}, "origin: found 'x', need the index of a trial"),
        ({"parent": -1}, "origin: found -1"),
        ({"origin": {"kind": "modify", "parents": ["x"]}}, "origin: found 'x'"),
        ({"origin": {"kind": "modify", "repeats": [True]}}, "origin: found True"),
        ({"info": 1}, "info: found 1, need a mapping"),
        ({"topology": [1]}, "topology: found"),
        ({"key": 0.0}, "key: found 0.0, need lower-case letters"),
        ({"key": False}, "key: found False"),
        ({"key": None}, "key: found None"),
    ],
)
def test_a_suggestion_that_somebody_edited_is_refused(part, told):
    with pytest.raises(ValueError, match=told):
        Suggestion.from_dict({"index": 0, "assignment": {}, **part})
