"""The normal distribution for arrays, against SciPy's."""

import numpy as np
import pytest
from scipy import special

from katib_flow.algorithms.normal import cdf, quantile


def test_probabilities_are_those_of_scipy_far_into_the_tails() -> None:
    x = np.array([-np.inf, *np.linspace(-37, 38, 301), np.inf, np.nan])
    assert cdf(x) == pytest.approx(special.ndtr(x), rel=1e-12, nan_ok=True)


def test_quantiles_are_those_of_scipy_and_infinite_at_the_ends() -> None:
    p = np.array([0.0, *np.logspace(-300, -0.001, 200), 1 - 1e-16, 1.0, np.nan, -0.1, 1.1])
    assert quantile(p) == pytest.approx(special.ndtri(p), rel=1e-14, nan_ok=True)
    assert quantile(p.reshape(2, -1)).shape == (2, len(p) // 2)
