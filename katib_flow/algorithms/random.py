"""Random search: independent draws from the prior; in a finite space, draws without replacement.

Paper: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012.
"""

from functools import lru_cache

import numpy as np

from katib_flow.algorithms.distinct import DistinctStream
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Suggestion
from katib_flow.spec.space import SearchSpace, Units


@lru_cache(maxsize=4)
def _stream(space: SearchSpace, seed: int) -> DistinctStream:
    def point(position: int) -> Units:
        return np.random.default_rng((seed, position)).random(len(space))

    return DistinctStream(space, point, seed)


@algorithm("random")
def random(ask: Ask[Settings]) -> list[Suggestion]:
    """What stands at an index depends on the seed and the index alone."""
    if ask.space.size is None:
        return [Suggestion(index, ask.space.draw(ask.rng(index))) for index in ask.indices]
    return [Suggestion(index, assignment) for index, assignment in _stream(ask.space, ask.seed).take(ask.indices)]
