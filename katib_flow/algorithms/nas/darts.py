"""Differentiable search: every edge a blend of all operations, whose weights are trained by gradient descent.

Paper: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019. The search is all in the trial, because it
follows the gradient of the network: ``katib_flow.training.darts``, what is derived from it too. Here are the segments
of that training, and after them the derived architecture, trained from scratch.
Reads: the architecture that the last segment came to, ``choice/<slot>/<position>-<operation>``.
Departs from it: one search, not the best of four with different seeds.
"""

from collections.abc import Iterator

from katib_flow.algorithms.nas.supernet import chained, needs_supernet
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spec.experiment import Experiment


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "darts", skips=False)


@algorithm("darts", check=_check, ends=True)
def darts(ask: Ask[Settings]) -> list[Suggestion]:
    """One trial at a time: segments of the search, then the derived architecture, from scratch."""
    return chained(ask)
