"""TPE: its densities integrate to one, its ratio is that of a brute force, and it finds what random search does not."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment, trial
from scipy import integrate, stats

from katib_flow.algorithms.evidence import Evidence
from katib_flow.algorithms.features import Features
from katib_flow.algorithms.registry import Ask
from katib_flow.algorithms.tpe import BANDWIDTH, MOST_GOOD, Density, TPESettings, densities, goodness
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spaces import search_space
from katib_flow.spec import Experiment

ORDERED, THREE = np.array([0]), np.array([3])


def test_a_density_is_the_mixture_of_truncated_normals_and_the_prior() -> None:
    centres = np.array([[0.05], [0.4], [0.93]])
    density = Density.at(centres, ORDERED, 1)
    width = BANDWIDTH * 4 ** (-1 / 5)
    for x in np.linspace(0, 1, 23):
        kernels = [stats.truncnorm.pdf(x, -c / width, (1 - c) / width, c, width) for c in centres[:, 0]]
        by_hand = (sum(kernels) + 1.0) / 4
        assert density.log_mixture(np.array([[x]]))[0] == pytest.approx(math.log(by_hand))


def test_the_weights_of_kernels_are_relative_and_the_prior_has_their_mean() -> None:
    centres, weights = np.array([[0.2], [0.8]]), np.array([3.0, 1.0])
    density = Density.at(centres, ORDERED, 1, weights)
    width = BANDWIDTH * 3 ** (-1 / 5)
    for x in np.linspace(0, 1, 23):
        near, far = (stats.truncnorm.pdf(x, -c / width, (1 - c) / width, c, width) for c in centres[:, 0])
        assert density.log_mixture(np.array([[x]]))[0] == pytest.approx(math.log((1.5 * near + 0.5 * far + 1.0) / 3))
    np.testing.assert_allclose(density.shares, Density.at(centres, ORDERED, 1, 7 * weights).shares)


@given(st.lists(st.floats(0, 1), min_size=0, max_size=9))
def test_a_density_integrates_to_one(centres: list[float]) -> None:
    weights = np.arange(len(centres)) + np.float64(1)
    density = Density.at(np.array(centres).reshape(-1, 1), ORDERED, 1, weights)
    total, _ = integrate.quad(
        lambda x: math.exp(density.log_mixture(np.array([[x]]))[0]), 0, 1, points=centres, limit=200
    )
    assert total == pytest.approx(1, abs=1e-5)


def test_a_categorical_density_is_a_share_for_each_category() -> None:
    middles = np.array([[1 / 6], [0.5], [5 / 6]])
    density = Density.at(middles[[0, 0, 2]], THREE, 1)
    shares = np.exp(density.log_mixture(middles)) / 3  # a category fills a third of the unit interval
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > shares[2] > shares[1]


def test_what_is_inactive_says_nothing() -> None:
    density = Density.at(np.array([[0.2, np.nan], [0.8, 0.5]]), np.array([0, 0]), 2)
    first_only = Density.at(density.centres[:, :1], density.categories[:1], 2)
    point = np.array([[0.3, np.nan]])
    assert density.log_mixture(point)[0] == pytest.approx(first_only.log_mixture(point[:, :1])[0])


def test_drawn_points_have_the_density_they_are_drawn_from() -> None:
    density = Density.at(np.array([[0.02], [0.7]]), ORDERED, 1, np.array([1.0, 4.0]))
    drawn = density.draw(20_000, np.random.default_rng(0))[:, 0]
    grid = np.linspace(0, 1, 2001)
    pdf = np.exp(density.log_mixture(grid[:, None]))
    cdf = np.concatenate([[0], np.cumsum((pdf[1:] + pdf[:-1]) / 2 * np.diff(grid))])
    # Kolmogorov-Smirnov: a sample of the right distribution fails this once in a million
    assert stats.kstest(drawn, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-6


def search(parameters: Any, **settings: Any) -> Experiment:
    limits = {"max_trials": 100}
    return experiment(parameters=parameters, limits=limits, algorithm={"name": "tpe", "seed": 1, "settings": settings})


def ended(asked: Experiment, points: list[Any], values: list[float]) -> History:
    suggestions = [Suggestion(index, point) for index, point in enumerate(points)]
    return History(
        tuple(
            trial(suggestion, State.SUCCEEDED, "accuracy", value)
            for suggestion, value in zip(suggestions, values, strict=True)
        )
    )


def test_the_best_ratio_is_that_of_a_brute_force_over_a_grid() -> None:
    asked = search({"x": {"type": "float", "min": 0, "max": 1}}, candidates=4000, startup=5)
    points = [0.1, 0.15, 0.3, 0.35, 0.5, 0.55, 0.62, 0.7, 0.8, 0.9, 0.95, 0.99]
    history = ended(asked, [{"x": x} for x in points], [-abs(x - 0.6) for x in points])
    # three of the twelve are good, by 5/6, 1/2 and 1/6; what is lacking to 1 counts as bad
    ranked = np.array(sorted(points, key=lambda x: abs(x - 0.6)))[:, None]
    above = Density.at(ranked[:3], ORDERED, 1, np.array([5.0, 3.0, 1.0]))
    below = Density.at(ranked, ORDERED, 1, np.array([1.0, 3.0, 5.0, *[6.0] * 9]))
    grid = np.linspace(0, 1, 10_001)[:, None]
    ratio = above.log_mixture(grid) - below.log_mixture(grid)
    (suggestion,) = suggest(asked, history, 1)
    assert suggestion.assignment["x"] == pytest.approx(grid[np.argmax(ratio), 0], abs=0.002)


@pytest.mark.parametrize(
    ("trials", "degrees"),
    [(0, []), (1, [1 / 2]), (2, [3 / 4, 1 / 4]), (10, [3 / 4, 1 / 4]), (20, [7 / 8, 5 / 8, 3 / 8, 1 / 8])],
)
def test_trials_are_good_by_degrees(trials: int, degrees: list[float]) -> None:
    assert goodness(trials).tolist() == pytest.approx(degrees)


def test_at_most_fifty_trials_are_good() -> None:
    assert len(goodness(240)) == 48
    assert len(goodness(10_000)) == MOST_GOOD == 50


BRANCHES: dict[str, Any] = {
    "model": {"type": "categorical", "values": ["a", "b", "c"]},
    "x": {"type": "float", "min": 0, "max": 1, "when": {"model": "a"}},
    "y": {"type": "float", "min": 0, "max": 1, "when": {"model": "b"}},
    "z": {"type": "float", "min": 0, "max": 1, "when": {"model": "c"}},
}


def test_the_densities_of_a_branch_are_those_of_its_own_trials() -> None:
    asked = search(BRANCHES)
    points = [{"model": "a", "x": 0.1}, {"model": "b", "y": 0.2}, {"model": "a", "x": 0.3}, {"model": "a", "x": 0.4}]
    history = ended(asked, points, [0.1, 0.9, 0.8, 0.7])
    waiting: list[Any] = [{"model": "b", "y": 0.5}, {"model": "a", "x": 0.6}]
    running = (Trial(Suggestion(4 + i, point), State.RUNNING) for i, point in enumerate(waiting))
    evidence = Evidence.from_ask(Ask(asked, history.replaced(running), range(0), TPESettings()))
    features, a = Features(search_space(asked)), 1 / 6  # the unit of a category is the middle of its third
    inside = np.array([[a, x, np.nan, np.nan] for x in (0.3, 0.4, 0.1, 0.6)])  # by rank, and the one that is running

    above, below = densities(features, evidence, np.array([False, False, True, True]))
    good, bad = np.array([3 / 4, 1 / 4]), np.array([1 / 4, 3 / 4, 1, 1])
    for density, expected in (
        (above, Density.at(inside[:2], features.categories, 2, good)),  # two parameters are active in the branch
        (below, Density.at(inside, features.categories, 2, bad)),
    ):
        np.testing.assert_allclose(density.centres, expected.centres)
        np.testing.assert_allclose(density.bandwidth, expected.bandwidth)
        np.testing.assert_allclose(density.shares, expected.shares)


def test_every_fourth_suggestion_searches_the_branch_with_the_fewest_trials() -> None:
    points: list[dict[str, Any]] = [{"model": "a", "x": k / 20} for k in range(20)] + [
        {"model": "b", "y": k / 8} for k in range(8)
    ]
    points += [{"model": "c", "z": k / 12} for k in range(12)]
    values = [{"a": 5.0, "b": -1 - (point.get("y", 0) - 0.4) ** 2, "c": -5.0}[point["model"]] for point in points]
    asked = search(BRANCHES)
    history = ended(asked, points, values)
    suggestions = [suggest(asked, history, 1, start=index)[0] for index in range(40, 48)]
    models = [suggestion.assignment["model"] for suggestion in suggestions]
    assert models[3] == models[7] == "b"
    assert {models[index] for index in (0, 1, 2, 4, 5, 6)} == {"a"}  # the branch of all good trials
    for index in (3, 7):  # where it improves on its own trials
        assert suggestions[index].assignment["y"] == pytest.approx(0.4, abs=0.15)


def test_running_trials_count_where_a_branch_is_searched_alone() -> None:
    asked = search(BRANCHES)
    history = ended(asked, [{"model": "a", "x": k / 12} for k in range(12)], [k / 12 for k in range(12)])
    models = ["a"] * 12 + [str(suggestion.assignment["model"]) for suggestion in suggest(asked, history, 28)]
    for index in range(15, 40, 4):  # every fourth
        assert models[:index].count(models[index]) == min(models[:index].count(model) for model in "abc")


def test_a_pending_trial_keeps_others_away() -> None:
    asked = search({"x": {"type": "float", "min": 0, "max": 1}}, startup=5)
    points = [0.1, 0.3, 0.5, 0.58, 0.62, 0.7, 0.8, 0.9]
    history = ended(asked, [{"x": x} for x in points], [-abs(x - 0.6) for x in points])
    (alone,) = suggest(asked, history, 1)
    busy = history.replaced(Trial(Suggestion(8 + i, {"x": alone.assignment["x"]}), State.RUNNING) for i in range(3))
    (other,) = suggest(asked, busy, 1)
    assert abs(other.assignment["x"] - alone.assignment["x"]) > 0.01  # type: ignore[operator]


def test_a_batch_holds_no_point_twice() -> None:
    asked = search({"k": {"type": "int", "min": 1, "max": 30}}, startup=3)
    history = ended(asked, [{"k": k} for k in (3, 9, 15, 22)], [0.1, 0.9, 0.5, 0.2])
    batch = [suggestion.assignment["k"] for suggestion in suggest(asked, history, 26)]
    assert sorted([*batch, 3, 9, 15, 22]) == list(range(1, 31))


def test_failed_trials_count_as_bad() -> None:
    asked = search({"x": {"type": "float", "min": 0, "max": 1}}, startup=5)
    points = [0.05, 0.2, 0.35, 0.5, 0.65, 0.95]
    history = ended(asked, [{"x": x} for x in points], list(points))
    broken = history.replaced(Trial(Suggestion(6 + i, {"x": 0.9 + 0.02 * i}), State.FAILED) for i in range(5))
    (suggestion,) = suggest(asked, broken, 1)
    assert not 0.88 < suggestion.assignment["x"] < 1.0  # type: ignore[operator]


@pytest.mark.parametrize("independent", [False, True])
def test_it_finds_the_branch_and_the_point_that_random_search_does_not(independent: bool) -> None:
    parameters = {
        "model": {"type": "categorical", "values": ["a", "b", "c"]},
        "x": {"type": "float", "min": 0, "max": 1},
        "y": {"type": "float", "min": 1e-4, "max": 1, "scale": "log", "when": {"model": ["b", "c"]}},
    }

    def value(point: Any) -> float:
        if point["model"] == "a":
            return 0.3 - (point["x"] - 0.5) ** 2
        near = (point["x"] - 0.2) ** 2 + 0.05 * (math.log10(point["y"]) + 2) ** 2
        return (1.0 if point["model"] == "b" else 0.6) - near

    def best(algorithm: str, seed: int) -> float:
        data = search(parameters, independent=independent).to_dict() | {"algorithm": {"name": algorithm, "seed": seed}}
        if algorithm == "tpe":
            data["algorithm"]["settings"] = {"independent": independent}
        asked, history = Experiment.parse(data), History()
        while len(history) < 60:
            history = history.replaced(
                trial(suggestion, State.SUCCEEDED, "accuracy", value(suggestion.assignment))
                for suggestion in suggest(asked, history, 4)
            )
        return max(trial.observations["accuracy"] for trial in history)

    ours, chance = (np.array([best(name, seed) for seed in range(10)]) for name in ("tpe", "random"))
    # under no difference, eight or more of ten pairs go one way once in 18 times; the medians' ratio tells far more
    assert np.sum(ours > chance) >= 8
    assert np.median(1 - ours) < np.median(1 - chance) / 2


def test_features_snap_to_what_exists() -> None:
    asked = search(
        {
            "n": {"type": "int", "min": 1, "max": 100, "scale": "log"},
            "k": {"type": "categorical", "values": ["a", "b", "c"]},
            "g": {"type": "float", "min": 1e-3, "max": 1, "scale": "log", "when": {"k": ["b", "c"]}},
            "o": {"type": "ordinal", "values": [1, 5, 7], "when": {"k": "c"}},
        }
    )
    features, rng = Features(search_space(asked)), np.random.default_rng(0)
    points = rng.random((500, len(search_space(asked))))
    for point, snapped in zip(points, features.snap(points), strict=True):
        exact = search_space(asked).encode(search_space(asked).decode(point))
        np.testing.assert_allclose(snapped, exact, equal_nan=True)


def test_a_space_of_which_almost_all_is_finite_and_tried_goes_on() -> None:
    values = {"k": {"type": "categorical", "values": list(range(2000))}}
    rare = {"x": {"type": "float", "min": 0, "max": 1, "when": {"k": 1999}}}  # one draw in two thousand
    asked = search(values | rare, startup=3)
    assert search_space(asked).size is None
    history = ended(asked, [{"k": k} for k in range(1999)], [0.0] * 1999)
    (suggestion,) = suggest(asked, history, 1)
    assert suggestion.assignment in search_space(asked)
