"""Random search against the prior, and what it shares with Sobol in a finite space."""

import math
from collections import Counter

import numpy as np
import pytest
from kit import experiment, typed
from scipy import stats

from katib_flow.algorithms.distinct import PATIENCE, DistinctStream
from katib_flow.history import History
from katib_flow.loop import suggest
from katib_flow.spaces import search_space

DRAWS = 2000
ODDS = 1e-6  # of a right draw to fall outside the margin, over all seeds; this one is fixed


def drawn(parameters, n=DRAWS, seed=11, name="random"):
    made = experiment(parameters=parameters, algorithm={"name": name, "seed": seed})
    return [suggestion.assignment for suggestion in suggest(made, History(), n)]


@pytest.mark.parametrize(
    ("scale", "low", "high", "prior"),
    [
        ("linear", -2.0, 3.0, stats.uniform(-2, 5)),
        ("log", 1e-5, 1.0, stats.loguniform(1e-5, 1)),
        ("normal", 0.0, 6.0, stats.truncnorm(-3, 3, loc=3, scale=1)),
    ],
)
def test_a_real_number_is_drawn_from_its_prior(scale, low, high, prior):
    values = [each["x"] for each in drawn({"x": {"type": "float", "min": low, "max": high, "scale": scale}})]
    assert stats.kstest(values, prior.cdf).pvalue > ODDS


def test_a_logit_is_drawn_evenly_between_those_of_the_bounds():
    values = [each["x"] for each in drawn({"x": {"type": "float", "min": 0.01, "max": 0.9, "scale": "logit"}})]
    logits = [math.log(value / (1 - value)) for value in values]
    low, high = math.log(0.01 / 0.99), math.log(0.9 / 0.1)
    assert stats.kstest(logits, stats.uniform(low, high - low).cdf).pvalue > ODDS


def test_the_logarithm_of_a_lognormal_is_drawn_from_a_normal():
    values = [
        each["x"]
        for each in drawn({"x": {"type": "float", "min": math.exp(-3), "max": math.exp(3), "scale": "lognormal"}})
    ]
    assert stats.kstest(np.log(values), stats.truncnorm(-3, 3).cdf).pvalue > ODDS


def test_choices_beside_a_real_number_are_drawn_evenly():
    act = {"type": "categorical", "values": ["a", "b", "c", "d"]}
    counts = Counter(each["act"] for each in drawn({"x": {"type": "float", "min": 0, "max": 1}, "act": act}))
    assert stats.chisquare([counts[value] for value in "abcd"]).pvalue > ODDS


def test_parameters_are_drawn_independently():
    pairs = drawn({name: {"type": "float", "min": 0, "max": 1} for name in "xy"})
    assert stats.pearsonr([each["x"] for each in pairs], [each["y"] for each in pairs]).pvalue > ODDS


def test_the_first_draws_of_a_finite_space_follow_the_prior():
    # The share of 1 among 1..100 on a log scale, taken over seeds, because a value is drawn once only.
    firsts = [
        drawn({"n": {"type": "int", "min": 1, "max": 100, "scale": "log"}}, n=1, seed=seed)[0]["n"]
        for seed in range(500)
    ]
    share = math.log(1.5 / 0.5) / math.log(100.5 / 0.5)
    assert stats.binomtest(firsts.count(1), 500, share).pvalue > ODDS


def test_a_finite_space_is_drawn_from_like_any_other_but_for_what_was_drawn_before():
    made = experiment(parameters={"n": {"type": "int", "min": 1, "max": 20}}, algorithm={"name": "random", "seed": 11})
    draws = [search_space(made).draw(np.random.default_rng((11, index)))["n"] for index in range(30)]
    expected = list(dict.fromkeys(draws))
    assert [each["n"] for each in drawn({"n": {"type": "int", "min": 1, "max": 20}}, n=len(expected))] == expected


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_a_space_of_thousands_is_covered_once(name):
    parameters = {
        "a": {"type": "int", "min": 1, "max": 150, "scale": "lognormal"},
        "b": {"type": "int", "min": 1, "max": 20, "scale": "normal"},
    }
    found = drawn(parameters, n=4000, name=name)
    assert len(found) == len({typed(each) for each in found}) == 150 * 20


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_a_space_of_a_billion_is_drawn_from_without_listing_it(name):
    values = [each["n"] for each in drawn({"n": {"type": "int", "min": 1, "max": 10**9}}, name=name)]
    assert len(set(values)) == DRAWS
    assert stats.kstest(values, stats.uniform(1, 10**9).cdf).pvalue > ODDS


def test_what_the_points_never_reach_is_gone_through_in_the_end():
    space = search_space(experiment(parameters={"n": {"type": "int", "min": 0, "max": 999}}))
    asked = []

    def corner():
        while True:
            asked.append(None)
            yield np.array([0.0])

    found = [
        suggestion.assignment["n"] for suggestion in DistinctStream(space, corner(), seed=1).suggestions(range(2000))
    ]
    assert found[0] == 0
    assert sorted(found) == list(range(1000))
    assert len(asked) == 1 + PATIENCE


def test_what_is_gone_through_in_the_end_is_scattered():
    space = search_space(experiment(parameters={"n": {"type": "int", "min": 0, "max": 9999}}))
    points = iter([np.array([0.0])] * (1 + PATIENCE))
    rest = [
        suggestion.assignment["n"] for suggestion in DistinctStream(space, points, seed=1).suggestions(range(1, 201))
    ]
    # Any eighth of the range holds 25 of 200 on average; a run from one end would hold them all.
    assert max(np.histogram(rest, bins=8, range=(0, 10_000))[0]) < 60
