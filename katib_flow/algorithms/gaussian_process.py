"""A Gaussian process in NumPy: a Matern-5/2 kernel with one lengthscale per group of features, fitted by MAP.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1, equations 4.17 and 5.9.
The logarithms of the lengthscales, the signal variance and the noise variance have normal priors. So has the constant
mean, which adds a constant to the kernel (equation 2.39 with a constant basis).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

Array = NDArray[np.float64]
ROOT5 = np.sqrt(5.0)
MEAN_VARIANCE = 1.0  # prior variance of the constant mean, in units of the standardised outputs
JITTER = 1e-8
LENGTHSCALE_IN_FOUR = -0.3  # mean of the logarithm of a lengthscale in four dimensions
REACH = 4  # bounds of the search for a hyper-parameter, in standard deviations of its prior


@dataclass(frozen=True)
class Priors:
    """Mean and standard deviation of the normal priors on the logarithms of the hyper-parameters."""

    lengthscale: tuple[float, float]
    signal: tuple[float, float] = (0.0, 0.7)
    noise: tuple[float, float] = (float(np.log(1e-3)), 1.5)

    @classmethod
    def in_dimensions(cls, d: float) -> "Priors":
        """Lengthscales that grow with the square root of the dimension d, as distances in the unit cube do.

        Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024, section 4.
        """
        return cls((LENGTHSCALE_IN_FOUR + 0.5 * float(np.log(d / 4)), 0.6))

    def moments(self, size: int) -> tuple[Array, Array]:
        """Mean and standard deviation of ``size`` hyper-parameters in the order of ``theta``, shape (size,) each."""
        mean, deviation = np.array([self.lengthscale] * (size - 2) + [self.signal, self.noise]).T
        return mean, deviation


def matern52(squared: Array) -> Array:
    """The kernel at squared distances in units of the lengthscale, any shape (equation 4.17)."""
    r = ROOT5 * np.sqrt(squared)
    return (1 + r + r * r / 3) * np.exp(-r)


def group_distances(one: Array, other: Array, group: NDArray[np.int64]) -> Array:
    """Squared distances within each group of features: (n, feature), (m, feature) -> (group, n, m)."""
    total = np.zeros((int(group.max()) + 1, len(one), len(other)))
    for feature, number in enumerate(group):
        total[number] += (one[:, feature, None] - other[None, :, feature]) ** 2
    return total


@dataclass(frozen=True)
class GaussianProcess:
    """The posterior for fixed hyper-parameters.

    Attributes:
        inputs: shape (n, feature).
        outputs: shape (n,), standardised.
        group: the number of each feature's lengthscale, shape (feature,).
        theta: logarithms of the lengthscales, of the signal variance and of the noise variance, in this order.
        factor: lower Cholesky factor of the kernel matrix, shape (n, n).
        weights: the kernel matrix solved for the outputs, shape (n,).
    """

    inputs: Array
    outputs: Array
    group: NDArray[np.int64]
    theta: Array
    factor: Array
    weights: Array

    @classmethod
    def from_theta(cls, inputs: Array, outputs: Array, group: NDArray[np.int64], theta: Array) -> "GaussianProcess":
        """Compute the posterior (algorithm 2.1, lines 2 and 3)."""
        kernel = _covariance(inputs, inputs, group, theta)
        kernel[np.diag_indices_from(kernel)] += np.exp(theta[-1]) + JITTER
        factor = linalg.cholesky(kernel, lower=True, check_finite=False)
        weights = linalg.cho_solve((factor, True), outputs, check_finite=False)
        return cls(inputs, outputs, group, theta, factor, weights)

    def posterior(self, points: Array) -> tuple[Array, Array]:
        """Mean and variance of the noise-free function at points, shape (m, feature) -> (m,), (m,)."""
        cross = _covariance(self.inputs, points, self.group, self.theta)
        half = linalg.solve_triangular(self.factor, cross, lower=True, check_finite=False)
        prior = np.exp(self.theta[-2]) + MEAN_VARIANCE
        return cross.T @ self.weights, np.maximum(prior - np.sum(half * half, axis=0), 1e-12)

    def believing(self, points: Array) -> "GaussianProcess":
        """The posterior after observing its own mean at pending points.

        Ginsbourger et al., "Kriging Is Well-Suited to Parallelize Optimization", 2010 (the kriging believer).
        """
        if not len(points):
            return self
        inputs, outputs = np.vstack([self.inputs, points]), np.concatenate([self.outputs, self.posterior(points)[0]])
        return GaussianProcess.from_theta(inputs, outputs, self.group, self.theta)


def _covariance(one: Array, other: Array, group: NDArray[np.int64], theta: Array) -> Array:
    scale = np.exp(-theta[:-2])[group]
    a, b = one * scale, other * scale
    squared = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)[None, :] - 2 * a @ b.T
    return np.exp(theta[-2]) * matern52(np.maximum(squared, 0.0)) + MEAN_VARIANCE


@dataclass(frozen=True)
class Objective:
    """The negative log posterior density of the hyper-parameters, up to a constant, and its gradient in theta.

    Attributes:
        distances: squared distances of the inputs by group of features, shape (group, n, n).
    """

    distances: Array
    outputs: Array
    priors: Priors

    def __call__(self, theta: Array) -> tuple[float, Array]:
        inverse = np.exp(-2 * theta[:-2])
        squared = np.tensordot(inverse, self.distances, axes=1)
        r = ROOT5 * np.sqrt(squared)
        decay = np.exp(theta[-2] - r)
        signal = (1 + r + r * r / 3) * decay
        kernel = signal + MEAN_VARIANCE
        noise = np.exp(theta[-1])
        kernel[np.diag_indices_from(kernel)] += noise + JITTER
        try:
            factor = linalg.cholesky(kernel, lower=True, check_finite=False)
        except linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        weights = linalg.cho_solve((factor, True), self.outputs, check_finite=False)
        precision = linalg.cho_solve((factor, True), np.eye(len(kernel)), check_finite=False)
        slope = precision - np.outer(weights, weights)  # equation 5.9, with the sign of the negative log
        value = 0.5 * self.outputs @ weights + np.sum(np.log(np.diag(factor)))
        by_lengthscale = slope * decay * (1 + r) * (5.0 / 3.0)
        gradient = np.empty_like(theta)
        gradient[:-2] = 0.5 * inverse * np.tensordot(self.distances, by_lengthscale, axes=2)
        gradient[-2] = 0.5 * np.sum(slope * signal)
        gradient[-1] = 0.5 * noise * np.trace(slope)
        mean, deviation = self.priors.moments(len(theta))
        z = (theta - mean) / deviation
        return float(value + 0.5 * z @ z), gradient + z / deviation


def fitted(inputs: Array, outputs: Array, group: NDArray[np.int64], priors: Priors) -> GaussianProcess:
    """The posterior with the MAP hyper-parameters that L-BFGS reaches from the mode of the prior.

    Args:
        inputs: shape (n, feature).
        outputs: shape (n,), standardised.
        group: the number of each feature's lengthscale, shape (feature,).
    """
    objective = Objective(group_distances(inputs, inputs, group), outputs, priors)
    mean, deviation = priors.moments(int(group.max()) + 3)
    bounds = np.stack([mean - REACH * deviation, mean + REACH * deviation], axis=1)
    options = {"maxiter": 50}
    optimum = optimize.minimize(objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return GaussianProcess.from_theta(inputs, outputs, group, np.asarray(optimum.x))
