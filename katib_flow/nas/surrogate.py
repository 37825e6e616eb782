"""A Gaussian process over networks of which only the distances are known.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1, equations 2.30 and 5.9.
The kernel is a sum over groups of distances, k = sum_g a_g exp(-sum_i b_gi d_gi) (Kandasamy et al., NeurIPS 2018,
section 4). Distances are scaled by their mean; the logarithms of a, b and the noise variance have normal priors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from katib_flow.algorithms.normal import cdf

Array = NDArray[np.float64]
Distances = Sequence[Array]
"""One array per group: among n networks of shape (distance, n, n), to m others of shape (distance, n, m)."""
AMPLITUDE = (-0.5, 0.7)  # mean and standard deviation of the logarithm of a
RATE = (-0.5, 1.0)
NOISE = (math.log(1e-2), 1.5)
REACH = 3  # bounds of the search for a hyper-parameter, in standard deviations of its prior
LEAST = 1e-6  # lower bound of the noise variance


@dataclass(frozen=True)
class Surrogate:
    """The posterior for fixed hyper-parameters.

    Attributes:
        theta: logarithms of the hyper-parameters: for each group the amplitude a and the rates b, then the noise
            variance.
        scales: for each group, the mean of each distance.
        precision: the inverse of the kernel matrix with noise, shape (n, n).
        outputs: shape (n,), standardised; for networks without a result, their expected mean.
    """

    theta: Array
    scales: Sequence[Array]
    precision: Array
    outputs: Array

    @classmethod
    def from_theta(cls, distances: Distances, outputs: Array, theta: Array) -> "Surrogate":
        """Compute the posterior.

        Args:
            outputs: the outputs of the first networks, standardised; the other networks are pending, and are assumed to
                give the posterior mean (kriging believer, Ginsbourger et al., 2010).
        """
        scales = _scales(distances)
        kernel, _ = _covariance(_scaled(distances, scales), theta)
        have = len(outputs)
        if have < len(kernel):
            expected = kernel[have:, :have] @ _inverse(kernel[:have, :have], theta) @ outputs
            outputs = np.concatenate([outputs, expected])
        return cls(theta, scales, _inverse(kernel, theta), outputs)

    def posterior(self, distances: Distances) -> tuple[Array, Array]:
        """Mean and variance of the noise-free function at m networks, by their distances to the n; shape (m,) each."""
        cross, _ = _covariance(_scaled(distances, self.scales), self.theta)
        prior = sum(np.exp(self.theta[at]) for at in _amplitudes(distances))
        explained = np.einsum("nm,nk,km->m", cross, self.precision, cross)
        return cross.T @ (self.precision @ self.outputs), np.maximum(prior - explained, 1e-9)

    def expected_improvement(self, distances: Distances, lowest: float) -> Array:
        """Expected improvement below ``lowest`` at m other networks, by their distances to the n; shape (m,)."""
        mean, variance = self.posterior(distances)
        deviation = np.sqrt(variance)
        z = (lowest - mean) / deviation
        return deviation * (z * cdf(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))

    @property
    def lowest(self) -> float:
        """The lowest of the outputs."""
        return float(self.outputs.min())


def fitted(distances: Distances, outputs: Array) -> Surrogate:
    """The posterior with the MAP hyper-parameters that L-BFGS reaches from the mode of the prior.

    Args:
        outputs: as for ``Surrogate.from_theta``.
    """
    have = len(outputs)
    known = [group[:, :have, :have] for group in distances]
    mean, deviation = np.array(
        [pair for group in distances for pair in (AMPLITUDE, *[RATE] * len(group))] + [NOISE], dtype=float
    ).T
    objective = _Objective(_scaled(known, _scales(known)), outputs, mean, deviation)
    bounds = np.stack([mean - REACH * deviation, mean + REACH * deviation], axis=1)
    options = {"maxiter": 40}
    optimum = optimize.minimize(objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return Surrogate.from_theta(distances, outputs, np.asarray(optimum.x))


@dataclass(frozen=True)
class _Objective:
    """The negative log posterior density of the hyper-parameters, up to a constant, and its gradient in theta."""

    distances: Distances
    outputs: Array
    mean: Array
    deviation: Array

    def __call__(self, theta: Array) -> tuple[float, Array]:
        kernel, parts = _covariance(self.distances, theta)
        noise = np.exp(theta[-1])
        kernel[np.diag_indices_from(kernel)] += noise + LEAST
        try:
            factor = linalg.cholesky(kernel, lower=True, check_finite=False)
        except linalg.LinAlgError:  # not every distance gives a positive definite kernel
            return 1e10, np.zeros_like(theta)
        weights = linalg.cho_solve((factor, True), self.outputs, check_finite=False)
        precision = linalg.cho_solve((factor, True), np.eye(len(kernel)), check_finite=False)
        slope = precision - np.outer(weights, weights)
        gradient: list[float] = []
        for start, part, group in zip(_amplitudes(self.distances), parts, self.distances, strict=True):
            weighed = slope * part
            gradient.append(0.5 * float(weighed.sum()))
            rates = np.exp(theta[start + 1 : start + 1 + len(group)])
            gradient += list(-0.5 * rates * np.tensordot(group, weighed, axes=2))
        gradient.append(0.5 * float(noise * np.trace(slope)))
        z = (theta - self.mean) / self.deviation
        value = 0.5 * self.outputs @ weights + np.sum(np.log(np.diag(factor)))
        return float(value + 0.5 * z @ z), np.array(gradient) + z / self.deviation


def _covariance(distances: Distances, theta: Array) -> tuple[Array, list[Array]]:
    """The kernel, and the term of each group."""
    parts: list[Array] = []
    for start, group in zip(_amplitudes(distances), distances, strict=True):
        rates = np.exp(theta[start + 1 : start + 1 + len(group)])
        parts.append(np.exp(theta[start] - np.tensordot(rates, group, axes=1)))
    return np.sum(parts, axis=0), parts


def _amplitudes(distances: Distances) -> list[int]:
    """The position of each group's amplitude in ``theta``."""
    sizes = [1 + len(group) for group in distances]
    return [sum(sizes[:at]) for at in range(len(sizes))]


def _scales(distances: Distances) -> list[Array]:
    means = [group.mean(axis=(1, 2)) for group in distances]
    return [np.where(mean > 0, mean, 1.0) for mean in means]


def _scaled(distances: Distances, scales: Sequence[Array]) -> Distances:
    return [group / scale[:, None, None] for group, scale in zip(distances, scales, strict=True)]


def _inverse(kernel: Array, theta: Array) -> Array:
    """The inverse of the kernel with noise, after negative eigenvalues are set to 0."""
    values, vectors = linalg.eigh(kernel, check_finite=False)
    return (vectors / (np.maximum(values, 0.0) + np.exp(theta[-1]) + LEAST)) @ vectors.T


def joined(distances: Distances, cross: Distances, own: Distances) -> Distances:
    """The distances among n + m networks, from those among the first n.

    Args:
        cross: distances from the n networks to m more.
        own: distances among the m.
    """
    with_more: list[Array] = []
    for group, across, among in zip(distances, cross, own, strict=True):
        above = np.concatenate([group, across], axis=2)
        below = np.concatenate([across.transpose(0, 2, 1), among], axis=2)
        with_more.append(np.concatenate([above, below], axis=1))
    return with_more
