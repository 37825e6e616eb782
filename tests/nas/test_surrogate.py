"""The Gaussian process over distances against closed forms."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from katib_flow.nas.surrogate import Surrogate, _Objective, fitted  # pyright: ignore[reportPrivateUsage]


def line(points, others=None):
    """Distances of points on a line: one group of |x - y|, one of its square."""
    apart = np.abs(np.subtract.outer(points, points if others is None else others))
    return [apart[None], apart[None] ** 2]


THETA = np.log([0.7, 1.3, 0.4, 0.6, 0.02])
POINTS = np.array([0.0, 0.4, 1.1, 2.0, 2.3])
OUTPUTS = np.array([0.3, 0.1, -1.2, 0.5, 0.8])


def test_the_posterior_is_that_of_the_closed_form():
    surrogate = Surrogate.from_theta(line(POINTS), OUTPUTS, THETA)
    new = np.array([0.2, 5.0])
    units = [group.mean() for group in line(POINTS)]

    def kernel(a, b):
        d, s = (group[0] / unit for group, unit in zip(line(a, b), units, strict=True))
        return 0.7 * np.exp(-1.3 * d) + 0.4 * np.exp(-0.6 * s)

    noisy = kernel(POINTS, POINTS) + (0.02 + 1e-6) * np.eye(5)
    cross = kernel(POINTS, new)
    mean, variance = surrogate.posterior(line(POINTS, new))
    np.testing.assert_allclose(mean, cross.T @ np.linalg.solve(noisy, OUTPUTS), rtol=1e-6)
    np.testing.assert_allclose(variance, 1.1 - np.sum(cross * np.linalg.solve(noisy, cross), axis=0), rtol=1e-6)


def test_the_gradient_is_that_of_differences():
    objective = _Objective(line(POINTS), OUTPUTS, np.zeros(5), np.ones(5))
    numeric = approx_fprime(THETA, lambda theta: objective(theta)[0], 1e-6)
    np.testing.assert_allclose(objective(THETA)[1], numeric, rtol=1e-4, atol=1e-5)


def test_a_network_that_is_being_tried_is_believed_and_is_no_longer_unknown():
    everything = np.append(POINTS, 3.5)
    before = Surrogate.from_theta(line(POINTS), OUTPUTS, THETA)
    after = Surrogate.from_theta(line(everything), OUTPUTS, THETA)
    mean, variance = after.posterior(line(everything, np.array([3.5])))
    assert variance[0] < 0.1 * before.posterior(line(POINTS, np.array([3.5])))[1][0]
    assert mean[0] == pytest.approx(after.outputs[-1], abs=0.05)


def test_of_a_network_that_is_being_tried_what_is_known_nearby_is_believed():
    for at, output in ((1.11, -1.2), (2.31, 0.8)):
        surrogate = Surrogate.from_theta(line(np.append(POINTS, at)), OUTPUTS, THETA)
        assert surrogate.outputs[-1] == pytest.approx(output, abs=0.3)


def test_distances_that_give_no_kernel_do_no_harm():
    rng = np.random.default_rng(0)
    wild = rng.random((2, 12, 12)) * 4
    wild = [(each + each.T) * (1 - np.eye(12)) for each in wild]
    gram = np.exp(-(wild[0] ** 2) / np.mean(wild[0] ** 2))
    assert np.linalg.eigvalsh(gram).min() < -0.1
    groups = [np.stack(wild), np.stack(wild) ** 2]
    surrogate = Surrogate.from_theta(groups, rng.normal(size=12), np.array([0, -1, -1, 0, -1, -1, -7.0]))
    mean, variance = surrogate.posterior(groups)
    assert np.isfinite(mean).all()
    assert np.linalg.eigvalsh(surrogate.precision).min() > 0
    assert (variance > 0).all()


def test_fitted_it_finds_the_valley_of_a_smooth_function():
    points = np.linspace(0, 4, 15)
    surrogate = fitted(line(points), np.cos(points * 1.5))
    new = np.linspace(0.1, 3.9, 50)
    mean, _ = surrogate.posterior(line(points, new))
    assert np.abs(mean - np.cos(new * 1.5)).max() < 0.15


def test_networks_that_are_all_alike_do_no_harm():
    zeros = [np.zeros((1, 3, 3))]
    mean, variance = fitted(zeros, np.array([0.1, 0.2, 0.3])).posterior([np.zeros((1, 3, 2))])
    np.testing.assert_allclose(mean, 0.2, atol=0.1)
    assert (variance > 0).all()
