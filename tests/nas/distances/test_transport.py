"""Transport against a solver of linear programmes, and against all ways to carry whole units."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from katib_flow.nas.distances.transport import AT_ONCE, most_profit


def by_linear_programme(supply, demand, profit):
    m, n = profit.shape
    able = np.isfinite(profit).ravel()
    rows = np.vstack([np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))])
    bounds = [(0, None if each else 0) for each in able]
    cost = np.where(able, -profit.ravel(), 0.0)
    return -linprog(cost, A_ub=rows, b_ub=np.concatenate([supply, demand]), bounds=bounds, method="highs").fun


@pytest.mark.parametrize("whole", [True, False])
def test_the_profit_is_that_of_the_linear_programme(whole):
    rng = np.random.default_rng(int(whole))
    for m, n in [(1, 1), (2, 5), (4, 4), (7, 6)]:
        supply, demand = rng.uniform(0, 9, (12, m)), rng.uniform(0, 9, (12, n))
        profit = rng.uniform(-0.5, 2.0, (12, m, n))
        profit[rng.random(profit.shape) < 0.3] = -np.inf
        if whole:  # ties and empty ends, as among networks
            supply, demand, profit = np.round(supply / 3), np.round(demand / 3), np.round(2 * profit) / 2
        expected = [by_linear_programme(*each) for each in zip(supply, demand, profit, strict=True)]
        np.testing.assert_allclose(most_profit(supply, demand, profit), expected, atol=1e-7)


def test_the_profit_is_the_best_of_all_ways_to_carry_whole_units():
    rng = np.random.default_rng(3)
    for _ in range(20):
        supply, demand = rng.integers(1, 3, 2), rng.integers(1, 3, 2)
        profit = rng.uniform(0, 2, (2, 2))
        best = max(
            float(np.sum(profit * np.reshape(ways, (2, 2))))
            for ways in itertools.product(range(3), repeat=4)
            if (np.reshape(ways, (2, 2)).sum(1) <= supply).all() and (np.reshape(ways, (2, 2)).sum(0) <= demand).all()
        )
        found = most_profit(supply[None].astype(float), demand[None].astype(float), profit[None])
        np.testing.assert_allclose(found, [best])


def test_what_was_carried_is_taken_back_where_another_pays_more():
    """The first path takes 2.0; only with 1 -> 1 taken back are 1.9 + 1.5 reached, not 2.0 alone."""
    profit = np.array([[[2.0, 1.9], [1.5, -np.inf]]])
    np.testing.assert_allclose(most_profit(np.ones((1, 2)), np.ones((1, 2)), profit), [3.4])


def test_any_number_of_problems_is_solved_each_by_itself():
    rng = np.random.default_rng(5)
    count = AT_ONCE + 3
    supply, demand, profit = rng.random((count, 2)), rng.random((count, 3)), rng.random((count, 2, 3))
    together = most_profit(supply, demand, profit)
    some = [0, AT_ONCE - 1, AT_ONCE, count - 1]
    alone = [most_profit(supply[[at]], demand[[at]], profit[[at]])[0] for at in some]
    np.testing.assert_allclose(together[some], alone)
    assert most_profit(supply[:0], demand[:0], profit[:0]).shape == (0,)
