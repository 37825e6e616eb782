"""The rules of early stopping, by examples worked out by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment

from katib_flow.history import History, Metric, State, Suggestion, Trial
from katib_flow.spec import Experiment
from katib_flow.stopping import check_stopping, reason_to_stop, registered_rules

LOSS = {"metric": "loss", "direction": "minimize"}
RULES = list(registered_rules())


def rule(name: str, *, objective: Any = LOSS, **settings: Any) -> Experiment:
    return experiment(objective=objective, early_stopping={"name": name, "settings": settings})


def trial(
    index: int, values: Sequence[float], state: State = State.SUCCEEDED, *, at: int = 0, steps: Sequence[int] = ()
) -> Trial:
    """A trial that reported some values of the loss, one a millisecond from ``at`` on."""
    numbered = enumerate(zip(steps or range(len(values)), values, strict=True))
    series = tuple(Metric("loss", value, step, at + k) for k, (step, value) in numbered)
    return Trial(Suggestion(index, {}), state, series={"loss": series})


def running(index: int, values: Sequence[float], **more: Any) -> Trial:
    return trial(index, values, State.RUNNING, **more)


# median

# Averages by step 2 (three values): 2, 4 and 6, so the median is 4.
THREE = History((trial(0, [1, 2, 3, 9]), trial(1, [4, 4, 4, 0]), trial(2, [5, 6, 7, 0])))


def median(**settings: Any) -> Experiment:
    return rule("median", **{"min_trials": 3, "start_step": 3, **settings})


def test_median_ends_a_trial_whose_best_is_worse_than_the_median_of_averages_by_that_step() -> None:
    assert reason_to_stop(median(), THREE, running(3, [9, 8, 4.5])) == (
        "its best loss by step 2, 4.5, is worse than 4, the median of the averages of 3 trials"
    )


@pytest.mark.parametrize("values", [[9, 8, 4], [3, 99, 99], [9, 9]], ids=["equal", "a good value once", "too early"])
def test_median_lets_a_trial_run(values: list[float]) -> None:
    assert reason_to_stop(median(), THREE, running(3, values)) == ""


def test_median_judges_against_the_same_step_not_against_what_came_later() -> None:
    """With their fourth values the averages are 3.75, 3 and 4.5: median 3.75; by step 2 it is 4, and 3.9 goes on."""
    assert reason_to_stop(median(), THREE, running(3, [3.9, 5, 5])) == ""
    assert "3.75" in reason_to_stop(median(), THREE, running(3, [3.9, 5, 5, 5]))


def test_median_counts_only_trials_that_ended_and_came_as_far() -> None:
    short, open_ = trial(2, [5, 6]), running(2, [5, 6, 7])
    failed = trial(2, [5, 6, 7], State.FAILED)
    for other in (short, open_, failed):
        assert reason_to_stop(median(), THREE.replaced([other]), running(3, [9, 9, 9])) == ""
    stopped = trial(2, [5, 6, 7], State.EARLY_STOPPED)
    assert reason_to_stop(median(), THREE.replaced([stopped]), running(3, [9, 9, 9])) != ""


def test_median_of_something_maximised() -> None:
    made = median(objective={"metric": "loss", "direction": "maximize"})
    assert reason_to_stop(made, THREE, running(3, [3, 3, 3.9])) != ""
    assert reason_to_stop(made, THREE, running(3, [3, 3, 4])) == ""


def test_a_trial_of_nan_is_worse_than_any_number() -> None:
    assert "inf, is worse than 4" in reason_to_stop(median(), THREE, running(3, [float("nan")] * 3))


def test_the_last_report_of_a_step_counts() -> None:
    assert reason_to_stop(median(start_step=2), THREE, running(3, [9, 9, 1], steps=[0, 2, 2])) == ""


def test_katibs_name_of_the_rule_and_its_setting() -> None:
    katibs = rule("medianstop", min_trials_required=3, start_step=3)
    assert list(check_stopping(katibs)) == []
    assert reason_to_stop(katibs, THREE, running(3, [9, 9, 9])) != ""


# asha: rungs at 2, 4 and 8 values, one in two goes on


def asha(**settings: Any) -> Experiment:
    return rule("asha", **{"start_step": 2, "eta": 2, **settings})


def test_asha_ends_a_trial_that_is_not_in_the_best_half_of_those_that_were_at_the_rung_before() -> None:
    others = History((trial(0, [5, 3]), trial(1, [6, 4])))
    assert reason_to_stop(asha(), others, running(2, [9, 3.5], at=10)) == (
        "its loss after 2 values, 3.5, ranks 2 of 3; the best 1/2 of the trials continue"
    )
    assert reason_to_stop(asha(), others, running(2, [9, 2.9], at=10)) == ""


def test_asha_lets_the_first_to_come_go_on_and_does_not_judge_it_again() -> None:
    """One of three came after it and was better; at its rung it was alone."""
    later = History((running(1, [1, 1], at=50), running(2, [2, 2], at=60)))
    assert reason_to_stop(asha(), later, running(0, [9, 9, 9], at=0)) == ""


def test_asha_judges_at_each_rung_by_the_best_value_so_far() -> None:
    others = History((trial(0, [1, 9, 9, 5]), trial(1, [2, 9, 9, 9])))
    assert reason_to_stop(asha(), others, running(2, [0.5, 9, 9, 9], at=10)) == ""
    assert "after 2 values" in reason_to_stop(asha(), others, running(2, [3, 9, 0, 0], at=10))
    behind_at_four = History((trial(0, [3, 3, 3, 1]), trial(1, [3, 3, 3, 1.5])))
    assert "after 4 values" in reason_to_stop(asha(), behind_at_four, running(2, [2, 2, 2, 2], at=10))


@given(st.lists(st.floats(0, 1), min_size=9, max_size=40, unique=True))
def test_asha_lets_about_one_in_eta_pass_a_rung_when_the_order_is_that_of_chance(losses: list[float]) -> None:
    """By brute force: a trial passes when fewer than max(1, n // eta) of the n so far are better, itself among them."""
    done: list[Trial] = []
    for index, loss in enumerate(losses):
        one = running(index, [loss, loss], at=10 * index)
        stopped = reason_to_stop(asha(eta=3), History(tuple(done)), one) != ""
        so_far = sorted(losses[: index + 1])
        top = so_far[: max(1, len(so_far) // 3)]
        assert stopped == (len(so_far) >= 3 and loss not in top)
        done.append(trial(index, [loss, loss], State.EARLY_STOPPED if stopped else State.SUCCEEDED, at=10 * index))


# patience


@pytest.mark.parametrize(
    ("values", "settings", "ends"),
    [
        ([5, 4, 4, 4], {}, False),
        ([5, 4, 4, 4, 4], {}, True),
        ([5, 4, 4, 4, 3], {}, False),
        ([5, 4, 3.95, 3.9, 3.85], {"min_delta": 0.2}, True),
        ([5, 4, 3.7, 3.65, 3.4], {"min_delta": 0.2}, False),
        ([5, 5, 5, 5, 5], {"start_step": 3}, False),
        ([5, 5, 5, 5, 5, 5], {"start_step": 3}, True),
        ([float("nan")] * 4, {}, True),
    ],
)
def test_patience(values: list[float], settings: dict[str, Any], ends: bool) -> None:
    made = rule("patience", patience=3, **settings)
    assert (reason_to_stop(made, History(), running(0, values)) != "") == ends


def test_patience_says_how_long_it_had() -> None:
    why = reason_to_stop(rule("patience", patience=2), History(), running(0, [5, 4, 4, 6]))
    assert why == "its loss has not improved on 4 in 2 reports"


# plateau


@pytest.mark.parametrize(
    ("values", "ends"),
    [([9, 1, 1.2, 1, 1.2], True), ([9, 1, 1.3, 1, 1.3], False), ([1, 1, 1], False), ([float("nan")] * 5, False)],
)
def test_plateau_is_a_small_standard_deviation_of_the_last_values(values: list[float], ends: bool) -> None:
    """1, 1.2, 1, 1.2 have a standard deviation of 0.1; with 1.3 it is 0.15."""
    made = rule("plateau", window=4, tolerance=0.100001)
    assert (reason_to_stop(made, History(), running(0, values)) != "") == ends


# all


@pytest.mark.parametrize("name", RULES)
def test_a_trial_that_has_reported_nothing_goes_on(name: str) -> None:
    assert reason_to_stop(rule(name), THREE, running(3, [])) == ""


@pytest.mark.parametrize("name", RULES)
@given(st.data())
def test_any_curves_are_judged_and_the_order_of_the_history_does_not_matter(name: str, data: st.DataObject) -> None:
    values = st.lists(st.floats(), max_size=12)
    curves, own = data.draw(st.lists(values, max_size=6)), data.draw(values)
    trials = [trial(index, curve, at=7 * index) for index, curve in enumerate(curves)]
    judged = reason_to_stop(rule(name), History(tuple(trials)), running(9, own, at=30))
    assert judged == reason_to_stop(rule(name), History(tuple(reversed(trials))), running(9, own, at=30))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_and_setting_says_what_it_is(name: str) -> None:
    entry = registered_rules()[name]
    assert entry.summary.endswith(".")
    assert all(entry.settings.about().get(field) for field in entry.settings.model_fields)


def test_a_rule_that_is_not_known_and_a_setting_that_is_wrong() -> None:
    (unknown,) = check_stopping(rule("medain"))
    assert (
        str(unknown)
        == "early_stopping.name: found 'medain', need an early-stopping rule: asha, median, patience, plateau; "
        "did you mean 'median'?"
    )
    (wrong,) = check_stopping(rule("median", min_trials=0))
    assert wrong.where == "early_stopping.settings.min_trials"


def test_without_a_rule_nothing_is_ended() -> None:
    assert reason_to_stop(experiment(objective=LOSS), THREE, running(3, [9, 9, 9, 9])) == ""
