"""Neural networks as plain data: topologies, operations, hashes, search spaces. Only ``build`` needs torch."""

from katib_flow.models.merges import merge
from katib_flow.models.operations import operation
from katib_flow.models.space import Space
from katib_flow.models.topology import Topology

__all__ = ["Space", "Topology", "merge", "operation"]
