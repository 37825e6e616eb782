"""Random search: independent draws from the prior; in a finite space, draws without replacement.

Paper: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012.
"""

import itertools
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from katib_flow.algorithms.distinct import DistinctStream
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.history import Suggestion
from katib_flow.spec.space import Assignment, SearchSpace

if TYPE_CHECKING:
    from katib_flow.models.space import Space


@lru_cache(maxsize=4)
def _stream(space: SearchSpace, architectures: "Space | None", seed: int) -> DistinctStream:
    points = (np.random.default_rng((seed, position)).random(len(space)) for position in itertools.count())
    return DistinctStream(space, points, seed, architectures)


@algorithm("random", several=True)
def random(ask: Ask[Settings]) -> list[Suggestion]:
    """One draw per index; it depends only on the seed and the index."""
    if ask.space.size is None:
        return [Suggestion(index, ask.space.draw(ask.rng(index))) for index in ask.indices]
    return _stream(ask.space, ask.architectures, ask.seed).suggestions(ask.indices)


def drawn(ask: Ask[Any], position: int) -> Assignment | None:
    """The assignment at a position of random search, whatever the order in which trials end.

    Returns:
        The assignment; None if a finite space is used up.
    """
    suggestions = random(replace(ask, indices=range(position, position + 1), settings=Settings()))
    return suggestions[0].assignment if suggestions else None
