"""Sobol search: a scrambled low-discrepancy sequence, which fills the space more evenly than chance.

Paper: Joe and Kuo, "Constructing Sobol sequences with better two-dimensional projections", SIAM J. Sci. Comput. 2008;
scrambling after Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 1998.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from katib_flow.algorithms.distinct import DistinctStream
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spaces import search_space
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.space import SearchSpace, Units

if TYPE_CHECKING:
    from katib_flow.models.space import Space

BLOCK = 256  # points made at a time, a power of two
MOST = 21_201  # dimensions for which Joe and Kuo give direction numbers


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    if not 0 < (count := len(search_space(experiment))) <= MOST:
        need = f"from 1 to {MOST} parameters for sobol; random takes any number"
        yield SpecError("parameters", f"{count} parameters", need)


def _points(dimensions: int, seed: int, start: int = 0) -> Iterator[Units]:
    """The sequence from a position on."""
    from scipy.stats import qmc  # slow to import, and not every algorithm needs it

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if start:  # by 0 it cannot go
        sequence.fast_forward(start)
    while True:
        yield from sequence.random(BLOCK)


@lru_cache(maxsize=4)
def _stream(space: SearchSpace, architectures: "Space | None", seed: int) -> DistinctStream:
    return DistinctStream(space, _points(len(space), seed), seed, architectures)


@algorithm("sobol", check=_check, several=True)
def sobol(ask: Ask[Settings]) -> list[Suggestion]:
    """The points of the sequence at the indices asked for; in a finite space, each assignment once."""
    if ask.space.size is not None:
        return _stream(ask.space, ask.architectures, ask.seed).suggestions(ask.indices)
    points = _points(len(ask.space), ask.seed, ask.indices.start)
    return [Suggestion(index, ask.space.decode(point)) for index, point in zip(ask.indices, points, strict=False)]
