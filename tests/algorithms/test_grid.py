"""Grid search against itertools.product."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from kit import every_assignment, experiment, parameter_sets, space, typed

from katib_flow.algorithms import check_algorithm
from katib_flow.errors import InvalidSpec
from katib_flow.history import History
from katib_flow.loop import load, suggest

MIXED = {
    "layers": {"type": "int", "min": 1, "max": 5, "step": 2},
    "act": {"type": "categorical", "values": ["relu", None]},
    "rate": {"type": "float", "min": 0.1, "max": 0.3, "step": 0.1},
}


def grid(parameters, n=100, start=0, **settings):
    made = experiment(parameters=parameters, algorithm={"name": "grid", "settings": settings}, limits={})
    return [dict(suggestion.assignment) for suggestion in suggest(made, History(), n, start=start)]


def test_the_grid_is_the_product_of_the_values_the_last_changing_fastest():
    product = itertools.product([1, 3, 5], ["relu", None], [0.1, 0.2, 0.3])
    assert grid(MIXED) == [dict(zip(MIXED, values, strict=True)) for values in product]


@given(parameter_sets(finite=True))
def test_a_conditional_grid_is_the_product_without_the_combinations_that_cannot_be(parameters):
    order = iter(space(parameters).parameters)
    expected = [typed(assignment) for assignment in every_assignment(parameters, order)]
    assert [typed(assignment) for assignment in grid(parameters, n=len(expected) + 1)] == expected


@pytest.mark.parametrize(("start", "n", "expected"), [(0, 2, 2), (16, 5, 2), (18, 5, 0), (10**12, 1, 0)])
def test_the_grid_ends_after_its_last_combination(start, n, expected):
    assert len(grid(MIXED, n, start)) == expected  # of 3 * 2 * 3


@pytest.mark.parametrize(
    ("scale", "low", "high", "points"),
    [
        ("linear", 0.0, 1.0, np.linspace(0, 1, 5)),
        ("log", 1e-4, 1.0, np.geomspace(1e-4, 1, 5)),
        ("logit", 0.1, 0.9, 1 / (1 + np.exp(-np.linspace(np.log(1 / 9), np.log(9), 5)))),
    ],
)
def test_a_float_without_a_step_gets_points_evenly_spaced_on_its_scale(scale, low, high, points):
    parameters = {"x": {"type": "float", "min": low, "max": high, "scale": scale}}
    assert [each["x"] for each in grid(parameters, points=5)] == pytest.approx(points.tolist())


def test_a_float_with_a_step_keeps_its_own_points():
    assert grid({"x": {"type": "float", "min": 0, "max": 1, "step": 0.5}}, points=9) == [
        {"x": 0.0},
        {"x": 0.5},
        {"x": 1.0},
    ]


def test_bounds_too_near_for_the_points_are_tried_once_each():
    near = {"x": {"type": "float", "min": 1.0, "max": 1.0000000000000002}}
    assert grid(near, points=100) == [{"x": 1.0}, {"x": 1.0000000000000002}]


def test_a_condition_holds_for_a_float_that_was_given_points():
    parameters = {
        "x": {"type": "float", "min": 0, "max": 1, "when": {"act": "a"}},
        "act": {"type": "categorical", "values": ["a", "b"]},
    }
    assert grid(parameters, points=2) == [{"act": "a", "x": 0.0}, {"act": "a", "x": 1.0}, {"act": "b"}]


def test_a_grid_of_a_billion_is_asked_for_its_end_at_once():
    parameters = {name: {"type": "int", "min": 0, "max": 999} for name in "abc"}
    assert grid(parameters, n=2, start=10**9 - 2) == [{"a": 999, "b": 999, "c": 998}, {"a": 999, "b": 999, "c": 999}]


def test_a_float_without_a_step_or_points_is_a_mistake():
    made = experiment(algorithm="grid")
    need = "a step, or algorithm.settings.points; the algorithms random and sobol need neither"
    assert [str(problem) for problem in check_algorithm(made)] == [
        f"parameters.lr: found 'a float without a step', need {need}"
    ]


@pytest.mark.parametrize(
    ("points", "need"),
    [
        (1, "found 1, need a number of at least 2"),
        (100_001, "found 100001, need a number of at most 100000"),
        ("many", "found 'many', need a whole number"),
        (True, "found True, need a number"),
    ],
)
def test_a_bad_number_of_points_is_a_mistake(points, need):
    with pytest.raises(InvalidSpec, match=f"^digits-mlp: algorithm.settings.points: {need}$"):
        grid({"x": {"type": "float", "min": 0, "max": 1}}, points=points)


def test_a_grid_needs_no_limit(tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "{name: x, objective: {metric: a, direction: maximize}, parameters: {x: {type: float, min: 0, max: 1}},"
        "algorithm: {name: grid, settings: {points: 3}}, trial: {function: 'a:b'}}"
    )
    assert load(tmp_path / "spec.yaml").algorithm.settings == {"points": 3}
