"""Sobol search: a scrambled low-discrepancy sequence, which fills the space more evenly than chance.

Paper: Joe and Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM J. Sci. Comput. 2008;
scrambling after Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 1998.
"""

from functools import lru_cache

import numpy as np

from katib_flow.algorithms.distinct import DistinctStream
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Suggestion
from katib_flow.spec.space import SearchSpace, Units

BLOCK = 256  # points made at a time, a power of two


@lru_cache(maxsize=4)
def _stream(space: SearchSpace, seed: int) -> DistinctStream:
    from scipy.stats import qmc  # slow to import, and not every algorithm needs it

    sampler = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
    points: list[Units] = []

    def point(position: int) -> Units:
        while position >= len(points):
            points.extend(sampler.random(BLOCK))
        return points[position]

    return DistinctStream(space, point, seed)


@algorithm("sobol")
def sobol(ask: Ask[Settings]) -> list[Suggestion]:
    """The points of the sequence at the indices asked for; in a finite space, each assignment once."""
    return [Suggestion(index, assignment) for index, assignment in _stream(ask.space, ask.seed).take(ask.indices)]
