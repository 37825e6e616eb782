"""Partial transport: many small transport problems with maximum profit, solved in parallel.

Each is a linear programme: maximise sum Z P over Z >= 0, where the rows of Z sum to at most the supply, and its columns
to at most the demand. It is solved exactly, by successive augmenting paths of maximum profit (Ahuja, Magnanti and
Orlin, "Network Flows", 1993, section 9.7). A general solver takes milliseconds per problem, this one microseconds,
because every step is a NumPy operation on all problems at once.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AT_ONCE = 1024  # number of problems solved together; their data fit into the processor's cache
EPSILON = 1e-9  # differences below this, relative to the size of the numbers, are rounding errors


def most_profit(supply: Array, demand: Array, profit: Array) -> Array:
    """The profit of the best transport, shape (problem,).

    Args:
        supply: shape (problem, m), at least 0.
        demand: shape (problem, n), at least 0.
        profit: the profit of one unit carried from a supplier to a consumer, shape (problem, m, n); -inf if nothing can
            be carried. Routes without a positive profit are not used.
    """
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(supply), AT_ONCE)]
    return np.concatenate([np.zeros(0), *(_solved(supply[part], demand[part], profit[part]) for part in parts)])


def _solved(supply: Array, demand: Array, profit: Array) -> Array:
    total = np.zeros(len(supply))
    tiny = EPSILON * max(1.0, float(np.max(supply, initial=0.0)), float(np.max(demand, initial=0.0)))
    problems = np.arange(len(supply))  # the unsolved ones
    supply, demand, carried = supply.copy(), demand.copy(), np.zeros(profit.shape)
    while len(problems):
        gain, end, into, back = _best_paths(supply, demand, profit, carried, tiny)
        going = gain > EPSILON
        supply, demand, profit, carried = (array[going] for array in (supply, demand, profit, carried))
        problems = problems[going]
        if len(problems):
            gain, end, into, back = gain[going], end[going], into[going], back[going]
            total[problems] += gain * _pushed(supply, demand, carried, end, into, back)
    return total


def _best_paths(
    supply: Array, demand: Array, profit: Array, carried: Array, tiny: float
) -> tuple[Array, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The path of maximum profit of each problem, by the Bellman-Ford algorithm.

    Returns:
        The profit of the path; the consumer at its end; the supplier before each consumer; and the consumer before each
        supplier, whose supply is redirected, or -1 if the supplier uses its own.
    """
    at_supplier = np.where(supply > tiny, 0.0, -np.inf)
    at_consumer = np.full(demand.shape, -np.inf)
    into, back = np.full(demand.shape, -1), np.full(supply.shape, -1)
    taken_back = np.where(carried > tiny, -profit, -np.inf)
    while True:
        forth = at_supplier[:, :, None] + profit
        better = forth.max(axis=1) > at_consumer + EPSILON
        if not better.any():
            break
        into = np.where(better, forth.argmax(axis=1), into)
        at_consumer = np.where(better, forth.max(axis=1), at_consumer)
        returned = at_consumer[:, None, :] + taken_back
        better = returned.max(axis=2) > at_supplier + EPSILON
        if not better.any():
            break
        back = np.where(better, returned.argmax(axis=2), back)
        at_supplier = np.where(better, returned.max(axis=2), at_supplier)
    reached = np.where(demand > tiny, at_consumer, -np.inf)
    end = reached.argmax(axis=1)
    return np.take_along_axis(reached, end[:, None], axis=1)[:, 0], end, into, back


def _pushed(
    supply: Array,
    demand: Array,
    carried: Array,
    end: NDArray[np.intp],
    into: NDArray[np.intp],
    back: NDArray[np.intp],
) -> Array:
    """Carry as much as possible along each path; changes the first three arrays, and returns the amounts."""
    every = np.arange(len(supply))
    amount = demand[every, end].copy()
    steps: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = []
    walking, consumer = every, end
    while len(walking):
        supplier = into[walking, consumer]
        before = back[walking, supplier]
        steps.append((walking, supplier, consumer, before))
        first = before < 0
        room = np.where(first, supply[walking, supplier], carried[walking, supplier, before])
        amount[walking] = np.minimum(amount[walking], room)
        walking, consumer = walking[~first], before[~first]
    demand[every, end] -= amount
    for walking, supplier, consumer, before in steps:
        carried[walking, supplier, consumer] += amount[walking]
        first = before < 0
        supply[walking[first], supplier[first]] -= amount[walking[first]]
        carried[walking[~first], supplier[~first], before[~first]] -= amount[walking[~first]]
    return amount
