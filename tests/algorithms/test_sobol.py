"""Sobol search against SciPy's sequence."""

import warnings

import numpy as np
import pytest
from kit import experiment
from scipy.stats import qmc

from katib_flow.algorithms import check_algorithm
from katib_flow.history import History
from katib_flow.loop import suggest

CUBE = {name: {"type": "float", "min": 0, "max": 1} for name in "abc"}  # at is the identity here


def points(n: int, start: int = 0, seed: int = 3, parameters=CUBE, name: str = "sobol") -> np.ndarray:
    made = experiment(parameters=parameters, algorithm={"name": name, "seed": seed})
    return np.array([list(suggestion.assignment.values()) for suggestion in suggest(made, History(), n, start=start)])


def sequence(n: int, seed: int = 3) -> np.ndarray:
    return qmc.Sobol(3, scramble=True, rng=np.random.default_rng(seed)).random(n)


@pytest.mark.parametrize("seed", [0, 1, 2**53])
def test_the_points_are_those_of_scipy_with_the_same_seed(seed):
    assert points(1024, seed=seed) == pytest.approx(sequence(1024, seed), abs=0)


@pytest.mark.parametrize("start", [1, 2, 255, 256, 257, 1000])
def test_a_point_in_the_middle_is_that_of_the_whole_sequence(start):
    assert points(3, start=start) == pytest.approx(sequence(1024)[start : start + 3], abs=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_points_fill_the_cube_more_evenly_than_chance(seed):
    # The most even of 10,000 random sets of 256 has 18 times the discrepancy of the least even of 1,000 scrambles.
    chance = points(256, seed=seed, name="random")
    assert qmc.discrepancy(points(256, seed=seed)) < qmc.discrepancy(chance) / 10


def test_each_half_and_quarter_of_a_range_gets_its_share_of_a_block():
    counts = np.histogram(points(64)[:, 0], bins=4, range=(0, 1))[0]
    assert counts.tolist() == [16, 16, 16, 16]


def test_the_first_points_come_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(points(3)) == 3


def test_the_ten_thousandth_point_of_a_finite_space_of_a_billion_is_found():
    parameters = {name: {"type": "int", "min": 1, "max": 1000} for name in "abc"}
    found = points(1, start=10_000, parameters=parameters)
    assert found.shape == (1, 3)


def test_more_parameters_than_there_are_direction_numbers_are_a_mistake():
    many = {f"p{k}": {"type": "int", "min": 0, "max": 1} for k in range(21_202)}
    (problem,) = check_algorithm(experiment(parameters=many, algorithm="sobol"))
    assert (
        str(problem)
        == "parameters: found '21202 parameters', need from 1 to 21201 parameters for sobol; random supports any number"
    )
