"""A controller chooses a normal and a reduction cell, node by node, and learns by proximal policy optimisation.

Paper: Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018: section 3 (a node
is five decisions: two earlier nodes, an operation on each, and how they are combined), appendix A.1 and A.2 (the
space and the controller: an LSTM of one layer of 100 units for both cells, PPO, batches of 20, a moving mean of the
rewards, which are validation accuracies). The space is ``pairs`` with 5 nodes and ``merge: slot``. The use of the
controller is in ``policy``. ScheduledDropPath belongs to the trainer: ``drop_path``.
Departs from it: the five decisions of a node are in the order of the space's slots; a failed trial has the lowest
reward so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.nas.policy import ProximalSettings, TokenPolicy, needs_slots, objective_rewards, proposed, proximal
from katib_flow.spec.experiment import Experiment

if TYPE_CHECKING:
    from katib_flow.nas import controller


def _check(experiment: Experiment, settings: ProximalSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "{space: pairs, settings: {merge: slot}}")


LEARNER = TokenPolicy(objective_rewards, proximal, spread=0.1)


@algorithm(
    "nasnet", settings=ProximalSettings, check=_check, learner=LEARNER, extra="nas", strategy="generation", scope="cell"
)
def nasnet(ask: Ask[ProximalSettings], taught: controller.Controller) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    return proposed(ask, taught)
