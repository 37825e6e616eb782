"""The standard normal distribution for arrays; importing ``scipy.special`` takes longer than drawing a suggestion."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_erfc = np.frompyfunc(math.erfc, 1, 1)
_inverse = np.frompyfunc(NormalDist().inv_cdf, 1, 1)


def cdf(x: Array) -> Array:
    """The probability that a standard normal number is at most x; NaN for NaN."""
    return 0.5 * np.asarray(_erfc(-x / math.sqrt(2)), dtype=float)


def quantile(p: Array) -> Array:
    """The inverse of ``cdf``: -inf for 0, inf for 1, NaN if p is outside [0, 1]."""
    inside = (p > 0) & (p < 1)
    values = np.where(p == 0, -np.inf, np.where(p == 1, np.inf, np.nan))
    values[inside] = np.asarray(_inverse(p[inside]), dtype=float)
    return values
