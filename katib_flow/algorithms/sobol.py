"""Sobol search: a scrambled low-discrepancy sequence, which covers the space more evenly than random search.

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

BLOCK = 256  # points computed at a time, a power of two
MOST = 21_201  # largest number of dimensions with direction numbers from Joe and Kuo


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    if not 0 < (count := len(search_space(experiment))) <= MOST:
        need = f"from 1 to {MOST} parameters for sobol; random supports any number"
        yield SpecError("parameters", f"{count} parameters", need)


def _points(dimensions: int, seed: int, start: int = 0) -> Iterator[Units]:
    """The points of the sequence, from a position on."""
    from scipy.stats import qmc  # slow to import, and not every algorithm needs it

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    if start:  # fast_forward(0) raises an error
        sequence.fast_forward(start)
    while True:
        yield from sequence.random(BLOCK)


@lru_cache(maxsize=4)
def _stream(space: SearchSpace, architectures: "Space | None", seed: int) -> DistinctStream:
    return DistinctStream(space, _points(len(space), seed), seed, architectures)


@algorithm("sobol", check=_check, several=True)
def sobol(ask: Ask[Settings]) -> list[Suggestion]:
    """The points of the sequence at the requested indices; in a finite space, every assignment once."""
    if ask.space.size is not None:
        return _stream(ask.space, ask.architectures, ask.seed).suggestions(ask.indices)
    points = _points(len(ask.space), ask.seed, ask.indices.start)
    return [Suggestion(index, ask.space.decode(point)) for index, point in zip(ask.indices, points, strict=False)]
