"""Weights shared by all architectures: a controller learns on a supernet which of them is good, in one training.

Paper: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018. The shared weights and the
controller are trained in turns inside the trial (``katib_flow.training.enas``), because a reward is a glance at one
batch of images. Here are the segments of that training, and after them what it chose (section 2.3), trained from
scratch.
Reads: the architecture that the last segment chose, ``choice/<slot>/<position>-<operation>``.
Departs from it: a slot is the operation of an edge, or whether an edge is there; in a cell, which earlier nodes are
read follows from where the operation is "none".
"""

from collections.abc import Iterator

from katib_flow.algorithms.nas.supernet import chained, needs_supernet
from katib_flow.algorithms.registry import Ask, Settings, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.spec.experiment import Experiment


def _check(experiment: Experiment, settings: Settings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "enas", skips=True)


@algorithm("enas", check=_check, ends=True)
def enas(ask: Ask[Settings]) -> list[Suggestion]:
    """One trial at a time: segments of the search, then the derived architecture, from scratch."""
    return chained(ask)
