"""Fronts, crowding and hypervolume against brute force, and the front of an experiment."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import experiment

from katib_flow import pareto
from katib_flow.history import History, State, Suggestion, Trial

objectives = st.integers(1, 4)
grid = st.integers(0, 4).map(float)  # few values, so that there are ties and equal points


@st.composite
def points(draw: st.DrawFn, most: int = 9, objectives: st.SearchStrategy[int] = objectives) -> np.ndarray:
    width = draw(objectives)
    rows = draw(st.lists(st.lists(grid, min_size=width, max_size=width), max_size=most))
    return np.array(rows).reshape(-1, width)


def beats(one: np.ndarray, other: np.ndarray) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


@given(points())
def test_fronts_are_those_of_the_definition(losses: np.ndarray) -> None:
    left, expected, number = set(range(len(losses))), {}, 0
    while left:
        front = {i for i in left if not any(beats(losses[j], losses[i]) for j in left)}
        expected |= dict.fromkeys(front, number)
        left, number = left - front, number + 1
    assert pareto.fronts(losses).tolist() == [expected[i] for i in range(len(losses))]


def test_more_points_than_fit_a_chunk() -> None:
    losses = np.random.default_rng(0).random((1100, 2))
    expected = [any(beats(other, one) for other in losses[np.all(losses <= one, axis=1)]) for one in losses]
    assert pareto.dominated(losses, losses).tolist() == expected


@given(points())
def test_the_hypervolume_is_that_of_the_unit_cells_that_are_dominated(losses: np.ndarray) -> None:
    width = losses.shape[1]
    cells = itertools.product(range(5), repeat=width)  # of the grid; the reference is 5 in every objective
    covered = sum(any(all(row[j] <= cell[j] for j in range(width)) for row in losses) for cell in cells)
    assert pareto.hypervolume(losses, np.full(width, 5.0)) == pytest.approx(covered)


def test_a_point_beyond_the_reference_adds_nothing() -> None:
    losses = np.array([[1.0, 1.0], [0.0, 9.0], [0.5, 2.0]])
    assert pareto.hypervolume(losses, np.array([2.0, 2.0])) == pytest.approx(1.0)


def test_crowding_as_by_hand() -> None:
    losses = np.array([[0.0, 10.0], [1.0, 6.0], [2.0, 5.0], [4.0, 0.0]])
    # of the second: (2 - 0) / 4 + (10 - 5) / 10; of the third: (4 - 1) / 4 + (6 - 0) / 10
    assert pareto.crowding(losses).tolist() == [np.inf, 1.0, 1.35, np.inf]
    assert pareto.crowding(np.zeros((0, 2))).tolist() == []
    assert pareto.crowding(np.ones((3, 2))).tolist() == [np.inf, 0.0, np.inf]


TWO = [{"metric": "accuracy", "direction": "maximize"}, {"metric": "size", "direction": "minimize"}]


def history(*values: tuple[float | None, float | None]) -> History:
    trials = []
    for index, (accuracy, size) in enumerate(values):
        observations = {key: value for key, value in (("accuracy", accuracy), ("size", size)) if value is not None}
        trials.append(Trial(Suggestion(index, {"lr": 0.1}), State.SUCCEEDED, observations))
    return History(tuple(trials))


def test_the_front_of_an_experiment_has_the_best_by_the_first_objective_first() -> None:
    made = experiment(objective=TWO)
    trials = history((0.5, 1.0), (0.9, 5.0), (0.9, 6.0), (0.7, 3.0), (0.99, None), (float("nan"), 0.0), (0.5, 1.0))
    assert [trial.index for trial in pareto.front(made, trials)] == [1, 3, 0, 6]
    assert pareto.front(made, ()) == ()


def test_the_front_of_one_objective_is_its_best() -> None:
    trials = history((0.5, None), (0.9, None), (0.9, None))
    assert [trial.index for trial in pareto.front(experiment(), trials)] == [1, 2]


def test_the_hypervolume_over_time_never_falls_and_ends_with_that_of_all() -> None:
    made = experiment(objective=TWO)
    rng = np.random.default_rng(1)
    trials = history(*((float(a), float(b)) for a, b in rng.random((40, 2))))
    curve = pareto.hypervolume_over_time(made, trials, reference=(0.0, 1.0))
    volumes = [volume for _, volume in curve]
    assert volumes == sorted(volumes)
    losses = pareto.losses_of(made, trials)
    for index, volume in curve:
        assert volume == pytest.approx(pareto.hypervolume(losses[: index + 1], np.array([0.0, 1.0])))
    worst = pareto.hypervolume_over_time(made, trials)
    assert worst[-1][1] == pytest.approx(pareto.hypervolume(losses, losses.max(axis=0)))
    assert pareto.hypervolume_over_time(made, History()) == []
