"""Weights carried over from a parent's network to its child's."""

from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights


def inherited(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """What a child takes over: tensors that it has under the same name, in the same shape."""
    return dict(weights)
