"""The mixture of an ensemble: the minimum of a convex function, by its conditions and by brute force."""

import numpy as np
import pytest
from scipy.optimize import brute

from katib_flow.nas.mixture import mixture, objective, slope


def members(seed: int, count: int = 6, images: int = 80, classes: int = 3):
    """What some classifiers give, of which the first half know something."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    outputs = rng.normal(size=(count, images, classes))
    outputs[: count // 2] += np.eye(classes)[labels]
    return outputs, labels, rng.uniform(0.002, 0.05, count)


@pytest.mark.parametrize("seed", range(8))
def test_the_slope_at_the_minimum_is_within_the_penalty_where_a_weight_is_0_and_equals_it_elsewhere(seed):
    outputs, labels, penalties = members(seed)
    weights = mixture(outputs, labels, penalties, np.zeros(6))
    found = slope(weights, outputs, labels)
    zero = weights == 0
    assert np.all(np.abs(found[zero]) <= penalties[zero] + 1e-6)
    np.testing.assert_allclose(found[~zero], -penalties[~zero] * np.sign(weights[~zero]), atol=1e-6)


def test_weights_that_are_worth_nothing_are_exactly_0_and_so_are_all_where_the_penalty_is_large():
    found = [mixture(*members(seed), np.zeros(6)) for seed in range(8)]
    assert 0 < np.mean([(weights == 0).sum() for weights in found]) < 4
    assert all((weights[:3] > 0).all() for weights in found)
    outputs, labels, penalties = members(0)
    assert not mixture(outputs, labels, penalties + 10, np.ones(6)).any()


def test_a_classifier_that_is_wrong_has_a_weight_below_0():
    outputs, labels, penalties = members(1, count=2)
    outputs[1] = -outputs[0] + 0.1 * outputs[1]
    assert mixture(outputs[1:], labels, penalties[1:], np.zeros(1))[0] < 0


def test_the_minimum_is_the_one_that_a_grid_finds():
    outputs, labels, penalties = members(2, count=2)
    weights = mixture(outputs, labels, penalties, np.zeros(2))
    best = brute(objective, [(-3, 6), (-3, 6)], (outputs, labels, penalties), Ns=60)
    np.testing.assert_allclose(weights, best, atol=1e-3)
    assert objective(weights, outputs, labels, penalties) <= objective(best, outputs, labels, penalties) + 1e-9


def test_the_objective_of_a_single_image_by_hand():
    """Two classes: the cross-entropy is the logistic loss log(1 + exp(-margin))."""
    outputs = np.array([[[1.0, -1.0]], [[0.5, 2.0]]])
    margin = (2 * 1 - 0.5 * 0.5) - (2 * -1 - 0.5 * 2)
    found = objective(np.array([2.0, -0.5]), outputs, np.array([0]), np.array([0.1, 0.2]))
    assert found == pytest.approx(np.log1p(np.exp(-margin)) + 0.1 * 2 + 0.2 * 0.5)


def test_the_slope_is_that_of_finite_differences():
    outputs, labels, penalties = members(3)
    weights, h = np.random.default_rng(0).normal(size=6), 1e-6
    for member in range(6):
        step = h * np.eye(6)[member]
        ends = [objective(weights + sign * step, outputs, labels, 0 * penalties) for sign in (1, -1)]
        assert slope(weights, outputs, labels)[member] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-6)


def test_from_no_start_does_it_get_worse():
    outputs, labels, penalties = members(4)
    best = mixture(outputs, labels, penalties, np.zeros(6))
    for start in (best, best + 1e-9, np.full(6, 50.0)):
        found = mixture(outputs, labels, penalties, start)
        assert objective(found, outputs, labels, penalties) <= objective(start, outputs, labels, penalties)
        assert objective(found, outputs, labels, penalties) == pytest.approx(
            objective(best, outputs, labels, penalties), abs=1e-8
        )
