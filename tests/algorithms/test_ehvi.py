"""Expected hypervolume improvement: its boxes tile what is not dominated, and it is what Monte Carlo and theory say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import experiment
from scipy import integrate, stats

from katib_flow import pareto
from katib_flow.algorithms.ehvi import boxes, expected_volume, reference_of, thinned
from katib_flow.history import History, State, Suggestion, Trial
from katib_flow.loop import suggest
from katib_flow.spec import Experiment

grid = st.integers(0, 4).map(float)


@st.composite
def fronts(draw: st.DrawFn) -> np.ndarray:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(grid, min_size=width, max_size=width), max_size=6))
    points = np.array(rows).reshape(-1, width)
    return points[~pareto.dominated(points, points)]


@given(fronts())
def test_the_boxes_tile_what_no_point_dominates(front: np.ndarray) -> None:
    width = front.shape[1]
    lower, upper = boxes(front, np.full(width, 5.0))
    cells = np.stack(np.meshgrid(*[np.arange(-1, 5) + 0.5] * width), axis=-1).reshape(-1, width)
    inside = ((lower[None] <= cells[:, None]) & (cells[:, None] <= upper[None])).all(axis=2).sum(axis=1)
    free = [not any((row <= cell).all() for row in front) for cell in cells]
    assert inside.tolist() == [int(each) for each in free]


@settings(max_examples=25, deadline=None)
@given(fronts(), st.integers(0, 99))
def test_without_doubt_it_is_the_improvement_of_the_hypervolume(front: np.ndarray, seed: int) -> None:
    width, reference = front.shape[1], np.full(front.shape[1], 5.0)
    points = np.random.default_rng(seed).uniform(-1, 6, (5, width))
    value = expected_volume(points, np.full(points.shape, 1e-9), *boxes(front, reference))
    before = pareto.hypervolume(front, reference)
    after = [pareto.hypervolume(np.vstack([front, point]), reference) for point in points]
    assert value == pytest.approx([each - before for each in after], abs=1e-6)


FRONT = np.array([[0.0, 1.0, 0.4], [0.5, 0.5, 0.6], [1.0, 0.0, 0.2]])
MEAN, DEVIATION = np.array([[0.3, 0.4, 0.5], [0.9, 0.9, 0.9], [-0.2, 0.3, 0.1]]), np.array([[0.3, 0.2, 0.4]] * 3)


@pytest.mark.parametrize("width", [2, 3])
def test_it_is_the_mean_of_improvements_that_are_drawn(width: int) -> None:
    points = FRONT[:, :width]
    front, reference = points[~pareto.dominated(points, points)], np.full(width, 1.5)
    exact = expected_volume(MEAN[:, :width], DEVIATION[:, :width], *boxes(front, reference))
    rng, count = np.random.default_rng(0), 3000
    for mean, deviation, value in zip(MEAN[:, :width], DEVIATION[:, :width], exact, strict=True):
        before = pareto.hypervolume(front, reference)
        drawn = rng.normal(mean, deviation, (count, width))
        gains = [pareto.hypervolume(np.vstack([front, each]), reference) - before for each in drawn]
        assert value == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / count**0.5)  # 4 sigma: 1 in 10,000


def test_of_two_objectives_it_is_the_integral_over_the_free_region() -> None:
    """EHVI is the integral, over what no point dominates, of the chance that a point is dominated by the new one."""
    front, reference = np.array([[0.2, 0.8], [0.6, 0.3]]), np.array([1.0, 1.0])
    mean, deviation = np.array([0.4, 0.5]), np.array([0.25, 0.4])

    def chance(b: float, a: float) -> float:
        return float(np.prod(stats.norm.cdf([a, b], mean, deviation)))

    total = sum(
        integrate.dblquad(chance, low, high, -6.0, top)[0]
        for low, high, top in ((-6.0, 0.2, 1.0), (0.2, 0.6, 0.8), (0.6, 1.0, 0.3))
    )
    assert expected_volume(mean[None], deviation[None], *boxes(front, reference))[0] == pytest.approx(total, rel=1e-6)


def test_of_one_objective_it_is_the_expected_improvement() -> None:
    mean, deviation = np.array([[0.3], [2.0]]), np.array([[0.5], [0.7]])
    z = (1.0 - mean) / deviation
    expected = deviation * (z * stats.norm.cdf(z) + stats.norm.pdf(z))
    corners = boxes(np.array([[1.0]]), np.array([4.0]))
    assert expected_volume(mean, deviation, *corners) == pytest.approx(expected[:, 0])


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_long_front_is_thinned_to_a_bounded_number_of_boxes_and_keeps_its_ends(width: int) -> None:
    rng = np.random.default_rng(0)
    sphere = np.abs(rng.normal(size=(900, width)))
    front = 1 - sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    front = front[~pareto.dominated(front, front)]
    kept = thinned(front)
    assert len(boxes(kept, np.full(width, 1.1))[0]) <= 512
    assert kept.min(axis=0).tolist() == front.min(axis=0).tolist()
    assert len(thinned(front[:5])) == 5


def test_the_reference_lies_behind_the_front_and_no_nearer_than_what_is_usual() -> None:
    front = np.array([[0.0, 2.0], [1.0, 0.0]])
    losses = np.vstack([front, [[3.0, 0.5]] * 3])
    assert reference_of(front, losses).tolist() == pytest.approx([3.0, 2.2])


TWO = [{"metric": "f1", "direction": "minimize"}, {"metric": "f2", "direction": "maximize"}]
SPACE: Any = {
    "x": {"type": "float", "min": 0.0, "max": 1.0},
    "y": {"type": "float", "min": 0.0, "max": 1.0},
    "kind": {"type": "categorical", "values": ["good", "bad"]},
}


def search(name: str) -> Experiment:
    return experiment(objective=TWO, parameters=SPACE, algorithm={"name": name, "seed": 1}, limits={"max_trials": 40})


def values(assignment: Any) -> dict[str, float]:
    """The front: x between 0.2 and 0.8, y = 0.5, the good kind."""
    cost = (assignment["y"] - 0.5) ** 2 + 0.3 * (assignment["kind"] == "bad")
    return {"f1": (assignment["x"] - 0.2) ** 2 + cost, "f2": -((assignment["x"] - 0.8) ** 2) - cost}


def play(name: str, batch: int, most: int) -> History:
    history = History()
    while len(history) < most:
        fresh = suggest(search(name), history, batch)
        history = history.replaced(Trial(each, State.SUCCEEDED, values(each.assignment)) for each in fresh)
    return history


@pytest.mark.parametrize("batch", [1, 4])
def test_gp_covers_the_front_that_random_search_does_not(batch: int) -> None:
    edge = np.array([0.5, 0.5])
    found, drawn = (
        pareto.hypervolume(pareto.losses_of(search(name), play(name, batch, 36)), edge) for name in ("gp", "random")
    )
    x = np.linspace(0.2, 0.8, 400)
    front = np.column_stack([(x - 0.2) ** 2, (x - 0.8) ** 2])
    best = pareto.hypervolume(front, edge)
    assert best - found < 0.5 * (best - drawn)  # six seeds lie between 0.05 and 0.55, of which this is one


def test_pending_and_failed_trials_and_those_without_all_values_are_taken_into_account() -> None:
    history = play("gp", 4, 12)
    more = suggest(search("gp"), history, 2)
    waiting = history.replaced(Trial(each, State.RUNNING) for each in more)
    assert not {each.assignment["x"] for each in more} & {
        each.assignment["x"] for each in suggest(search("gp"), waiting, 2)
    }
    half = Trial(Suggestion(12, {"x": 0.5, "y": 0.5, "kind": "good"}), State.SUCCEEDED, {"f1": -1e9})
    failed = Trial(half.suggestion, State.FAILED)
    one, other = (suggest(search("gp"), history.replaced([each]), 2, start=20) for each in (half, failed))
    assert [each.assignment for each in one] == [each.assignment for each in other]
