"""The two decisions of the loop: whether to go on, and with what."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment

from katib_flow.errors import InvalidSpec
from katib_flow.history import History, Kind, Origin, State, Suggestion, Trial
from katib_flow.loop import End, Verdict, exhausted, suggest, verdict

FINAL = [state for state in State if state.final]
GOAL = {"metric": "accuracy", "direction": "maximize", "goal": 0.9}


def search(goal: object = None, **limits: object):
    objective = GOAL if goal is None else goal
    return experiment(objective=objective, limits={"max_trials": 10, "max_failed_trials": 2, **limits})


def trials(*states: State, **observed: float) -> History:
    """Trials in these states; the last has the observations."""
    made = [Trial(Suggestion(index, {"lr": 0.1}), state) for index, state in enumerate(states)]
    if observed:
        made[-1] = Trial(made[-1].suggestion, made[-1].state, observed)
    return History(tuple(made))


def test_an_experiment_that_has_just_begun_may_start_as_many_as_run_in_parallel():
    assert verdict(search(parallel_trials=4), History()) == Verdict(4, End.NOT_YET)


@pytest.mark.parametrize(
    ("open_", "done", "may_start"),
    [(0, 0, 4), (1, 0, 3), (4, 0, 0), (5, 0, 0), (0, 7, 3), (2, 7, 1), (3, 6, 1), (0, 9, 1), (4, 5, 0), (2, 5, 2)],
)
def test_the_room_is_what_neither_parallel_trials_nor_max_trials_forbids(open_, done, may_start):
    history = trials(*[State.SUCCEEDED] * done, *[State.RUNNING] * open_)
    assert verdict(search(parallel_trials=4), history).may_start == may_start


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING])
def test_a_trial_that_has_not_ended_takes_up_room(state):
    assert verdict(search(parallel_trials=2), trials(state)).may_start == 1


def test_there_is_room_for_ever_where_no_number_of_trials_is_set():
    endless = experiment(objective=GOAL, limits={"parallel_trials": 3})
    assert verdict(endless, trials(*[State.SUCCEEDED] * 1000)) == Verdict(3, End.NOT_YET)


@pytest.mark.parametrize("state", [state for state in State if state is not State.KILLED])
def test_the_experiment_ends_at_its_number_of_trials(state):
    ended = verdict(search(max_failed_trials=99), trials(*[state] * 10, accuracy=0.5))
    assert (ended.end, ended.may_start, ended.go, ended.failed) == (End.MAX_TRIALS, 0, False, state.failure)
    assert ended.reason.startswith("reached limits.max_trials (10)")


FRUITLESS = "no trial gave a finite value of 'accuracy'"


def test_an_experiment_without_a_usable_result_has_failed_and_sums_up_why():
    messages = ["it printed nothing"] * 2 + ["exit code 1"]
    states = [State.METRICS_UNAVAILABLE] * 3 + [State.FAILED, State.SUCCEEDED]
    made = [
        Trial(Suggestion(index, {"lr": 0.1}), state, {"accuracy": math.nan}, message=message)
        for index, (state, message) in enumerate(zip(states, [*messages, "ValueError: no", ""], strict=True))
    ]
    ended = verdict(search(max_trials=5, max_failed_trials=9), History(tuple(made)))
    assert (ended.end, ended.failed) == (End.MAX_TRIALS, True)
    assert ended.reason == (
        f"reached limits.max_trials (5); {FRUITLESS}: "
        "3 metrics-unavailable (most often it printed nothing), 1 failed (ValueError: no), 1 succeeded"
    )


def test_it_has_not_failed_while_a_trial_may_still_give_one():
    assert not verdict(search(), trials(*[State.SUCCEEDED] * 9, State.RUNNING)).failed


def test_of_several_objectives_one_trial_must_have_a_value_of_each():
    objectives = [{"metric": name, "direction": "maximize"} for name in ("accuracy", "recall")]
    of = search(objectives, max_trials=2)
    apart = History((*trials(State.SUCCEEDED, accuracy=1), Trial(Suggestion(1, {}), State.SUCCEEDED, {"recall": 1.0})))
    assert verdict(of, apart).failed
    assert not verdict(of, trials(*[State.SUCCEEDED] * 2, accuracy=1, recall=1)).failed


def test_segments_of_a_supernets_search_reach_no_goal_and_are_no_result():
    segments = [
        Trial(Suggestion(index, {}, origin=Origin(Kind.SEGMENT)), State.SUCCEEDED, {"accuracy": 0.99})
        for index in range(2)
    ]
    goal = {"metric": "accuracy", "direction": "maximize", "goal": 0.9}
    assert verdict(search(goal, max_trials=3), History(tuple(segments))) == Verdict(1, End.NOT_YET)
    ended = verdict(search(goal, max_trials=2), History(tuple(segments)))
    assert (ended.end, ended.failed) == (End.MAX_TRIALS, True)
    assert ended.reason == (
        f"reached limits.max_trials (2); {FRUITLESS}: 2 succeeded; "
        "segments of a search do not count, and no network that it derived was trained"
    )


def test_nothing_more_to_suggest_is_no_success_by_itself():
    assert exhausted(search(), History()).failed
    assert not exhausted(search(), trials(State.SUCCEEDED, accuracy=0.5)).failed


def test_a_killed_trial_does_not_count_as_one_of_them():
    assert verdict(search(parallel_trials=4), trials(*[State.KILLED] * 10)) == Verdict(4, End.NOT_YET)
    history = trials(*[State.KILLED] * 3, *[State.SUCCEEDED] * 9)
    assert verdict(search(parallel_trials=4), history).may_start == 1


@pytest.mark.parametrize(
    ("maximum", "end"), [(11, End.NOT_YET), (10, End.MAX_TRIALS), (3, End.MAX_TRIALS), (0, End.MAX_TRIALS)]
)
def test_another_number_of_trials_replaces_that_of_the_spec(maximum, end):
    assert verdict(search(), trials(*[State.SUCCEEDED] * 10), max_trials=maximum).end is end


def test_no_trial_starts_where_none_may():
    assert verdict(search(), History(), max_trials=0).end is End.MAX_TRIALS


@pytest.mark.parametrize("state", [State.FAILED, State.METRICS_UNAVAILABLE])
def test_the_experiment_fails_when_more_trials_fail_than_may(state):
    assert verdict(search(), trials(*[state] * 2)).go
    ended = verdict(search(), trials(*[state] * 3))
    assert (ended.end, ended.may_start, ended.failed) == (End.MAX_FAILED_TRIALS, 0, True)
    assert ended.reason == f"3 trials failed; limits.max_failed_trials allows 2; {FRUITLESS}: 3 {state}"


@pytest.mark.parametrize("state", [State.KILLED, State.EARLY_STOPPED, State.SUCCEEDED])
def test_a_trial_that_was_stopped_is_no_failure(state):
    assert verdict(search(), trials(*[state] * 5)).go


def test_no_failure_at_all_may_be_allowed():
    assert verdict(search(max_failed_trials=0), trials(State.FAILED)).end is End.MAX_FAILED_TRIALS


@pytest.mark.parametrize(
    ("elapsed", "end"), [(0, End.NOT_YET), (59.9, End.NOT_YET), (60, End.TIMEOUT), (1e9, End.TIMEOUT)]
)
def test_the_experiment_ends_at_its_timeout(elapsed, end):
    ended = verdict(search(timeout="1m"), History(), elapsed_seconds=elapsed)
    assert ended.end is end
    assert ended.reason == ("" if end is End.NOT_YET else f"reached limits.timeout (60 s); {FRUITLESS}")


def test_the_timeout_of_a_resume_is_the_one_that_is_told():
    ended = verdict(search(timeout="1m"), History(), elapsed_seconds=90, timeout=90)
    assert (ended.end, ended.reason) == (End.TIMEOUT, f"reached limits.timeout (90 s); {FRUITLESS}")


def test_the_experiment_ends_where_a_user_stops_it():
    assert verdict(search(), trials(State.RUNNING), stop=True) == Verdict(0, End.STOPPED, "stopped by the user")


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.EARLY_STOPPED])
@pytest.mark.parametrize("accuracy", [0.9, 0.95])
def test_the_experiment_ends_at_its_goal(state, accuracy):
    ended = verdict(search(), trials(State.FAILED, state, accuracy=accuracy))
    assert (ended.end, ended.may_start, ended.failed) == (End.GOAL, 0, False)
    assert ended.reason == f"trial t00001 reached the goal with accuracy {accuracy:g}"


@pytest.mark.parametrize("accuracy", [0.89, float("nan"), float("inf")])
def test_what_is_below_the_goal_or_no_number_does_not_reach_it(accuracy):
    assert verdict(search(), trials(State.SUCCEEDED, accuracy=accuracy)).go


@pytest.mark.parametrize("state", [state for state in State if state not in (State.SUCCEEDED, State.EARLY_STOPPED)])
def test_a_trial_that_did_not_end_well_reaches_no_goal(state):
    assert verdict(search(), trials(state, accuracy=1.0)).end is not End.GOAL


@pytest.mark.parametrize(("loss", "end"), [(0.1, End.GOAL), (0.05, End.GOAL), (0.11, End.NOT_YET)])
def test_the_goal_of_a_metric_to_minimize_is_reached_from_above(loss, end):
    goal = {"metric": "loss", "direction": "minimize", "goal": 0.1}
    assert verdict(search(goal), trials(State.SUCCEEDED, loss=loss)).end is end


def test_without_a_goal_no_value_ends_the_experiment():
    assert verdict(search({"metric": "accuracy", "direction": "maximize"}), trials(State.SUCCEEDED, accuracy=1e300)).go


SEVERAL = [
    GOAL,
    {"metric": "latency", "direction": "minimize", "goal": 10},
    {"metric": "size", "direction": "minimize"},
]


@pytest.mark.parametrize(
    ("observed", "end"),
    [
        ({"accuracy": 0.95, "latency": 9}, End.GOAL),
        ({"accuracy": 0.95, "latency": 11}, End.NOT_YET),
        ({"accuracy": 0.8, "latency": 9}, End.NOT_YET),
        ({"accuracy": 0.95}, End.NOT_YET),
    ],
)
def test_of_several_goals_one_trial_must_reach_all(observed, end):
    assert verdict(search(SEVERAL), trials(State.SUCCEEDED, **observed)).end is end


def test_goals_that_two_trials_share_between_them_are_not_reached():
    one, other = ({"accuracy": 0.95, "latency": 11.0}, {"accuracy": 0.5, "latency": 1.0})
    history = History(tuple(Trial(Suggestion(k, {}), State.SUCCEEDED, seen) for k, seen in enumerate((one, other))))
    assert verdict(search(SEVERAL), history).go


PRECEDENCE = [End.GOAL, End.MAX_FAILED_TRIALS, End.STOPPED, End.TIMEOUT, End.MAX_TRIALS]


@given(st.sets(st.sampled_from(PRECEDENCE), min_size=1))
def test_of_several_ends_the_one_that_tells_most_is_named(ends):
    states = [State.FAILED] * (3 if End.MAX_FAILED_TRIALS in ends else 0) + [State.SUCCEEDED]
    ended = verdict(
        search(timeout=60),
        trials(*states, accuracy=1.0 if End.GOAL in ends else 0.1),
        elapsed_seconds=61 if End.TIMEOUT in ends else 0,
        max_trials=1 if End.MAX_TRIALS in ends else 99,
        stop=End.STOPPED in ends,
    )
    assert ended.end is next(end for end in PRECEDENCE if end in ends)


@given(st.lists(st.sampled_from(State), max_size=15), st.integers(1, 5), st.integers(1, 12))
def test_no_verdict_lets_more_trials_start_than_the_limits_have_room_for(states, parallel, maximum):
    made = search(parallel_trials=parallel, max_trials=maximum)
    may_start = verdict(made, trials(*states)).may_start
    running = sum(not state.final for state in states)
    counted = sum(state is not State.KILLED for state in states)
    assert may_start >= 0
    if may_start:
        assert may_start + running <= parallel
        assert may_start + counted <= maximum


def test_every_end_but_exhausted_is_a_verdict():
    # EXHAUSTED is known to the schedulers alone: it takes an algorithm's answer.
    assert {*PRECEDENCE, End.NOT_YET, End.EXHAUSTED} == set(End)


# suggest


def test_suggestions_begin_after_the_last_trial():
    assert [each.index for each in suggest(search(), trials(State.RUNNING, State.FAILED), 3)] == [2, 3, 4]


def test_suggestions_begin_where_they_are_told_to():
    assert [each.index for each in suggest(search(), trials(State.RUNNING), 2, start=7)] == [7, 8]


def test_suggesting_changes_nothing():
    history = trials(State.SUCCEEDED)
    assert suggest(search(), history, 2) == suggest(search(), history, 2)


@pytest.mark.parametrize(
    "name", ["sobel", "registry", "distinct", "a.b", "..", "", " ", "a\0b", "x" * 300, "random.random"]
)
def test_an_unknown_algorithm_is_refused(name):
    made = experiment(algorithm={"name": name}) if name else None
    if made is None:
        with pytest.raises(InvalidSpec, match=r"algorithm\.name"):
            experiment(algorithm={"name": name})
    else:
        with pytest.raises(InvalidSpec, match=r"algorithm\.name: found .*, need an algorithm: .*random"):
            suggest(made, History(), 1)
