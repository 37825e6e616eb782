"""A metric's series -> its observation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.history import Metric
from katib_flow.metrics import observe, reduce

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("strategy", "values", "expected"),
    [
        ("latest", [3.0, 1.0, 2.0], 2.0),
        ("min", [3.0, 1.0, 2.0], 1.0),
        ("max", [3.0, 1.0, 2.0], 3.0),
        ("latest", [1.0, INF], INF),
        ("max", [1.0, INF, NAN], 1.0),
        ("min", [NAN, -INF, 2.0], 2.0),
        ("max", [NAN, -INF], -INF),
        ("min", [INF, -INF], -INF),
        ("max", [0.0], 0.0),
    ],
)
def test_a_series_is_reduced_by_its_strategy(strategy, values, expected):
    assert reduce(values, strategy) == expected


@pytest.mark.parametrize(("strategy", "values"), [("latest", [1.0, NAN]), ("min", [NAN, NAN]), ("max", [NAN])])
def test_a_series_that_ends_in_nothing_else_is_not_a_number(strategy, values):
    assert math.isnan(reduce(values, strategy))


@given(st.lists(st.floats(), min_size=1), st.sampled_from(["latest", "min", "max"]))
def test_an_observation_is_one_of_the_values(values, strategy):
    assert repr(reduce(values, strategy)) in [repr(value) for value in values]


@given(st.lists(st.floats(), min_size=1), st.sampled_from(["min", "max"]))
def test_a_finite_value_is_never_hidden_by_one_that_is_not(values, strategy):
    assert math.isfinite(reduce(values, strategy)) == any(map(math.isfinite, values))


def test_each_metric_has_its_own_strategy_and_the_latest_counts_without_one():
    metrics = [Metric(name, value) for value in (3.0, 1.0, 2.0) for name in ("a", "b", "c")]
    assert observe(metrics, {"a": "max", "b": "min"}) == {"a": 3.0, "b": 1.0, "c": 2.0}


def test_the_latest_is_the_one_reported_last_whatever_its_step():
    assert observe([Metric("a", 1.0, step=9), Metric("a", 2.0, step=3)], {}) == {"a": 2.0}


def test_a_vector_is_no_observation():
    assert observe([Metric("stats", (1.0, 2.0)), Metric("a", 1.0)], {"stats": "max"}) == {"a": 1.0}


def test_nothing_reported_is_nothing_observed():
    assert observe(iter([]), {"a": "max"}) == {}
