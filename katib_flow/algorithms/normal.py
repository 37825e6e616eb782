"""The standard normal distribution, for arrays: ``scipy.special`` has it too, and takes longer to import than a whole
suggestion takes to draw."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_erfc = np.frompyfunc(math.erfc, 1, 1)
_inverse = np.frompyfunc(NormalDist().inv_cdf, 1, 1)


def cdf(x: Array) -> Array:
    """The probability of a number of at most x; NaN of NaN."""
    return 0.5 * np.asarray(_erfc(-x / math.sqrt(2)), dtype=float)


def quantile(p: Array) -> Array:
    """The number that ``cdf`` gives p for: -inf for 0, inf for 1, NaN for what is no probability."""
    inside = (p > 0) & (p < 1)
    values = np.where(p == 0, -np.inf, np.where(p == 1, np.inf, np.nan))
    values[inside] = np.asarray(_inverse(p[inside]), dtype=float)
    return values
