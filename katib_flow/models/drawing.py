"""A topology as a picture."""

from katib_flow.models.topology import Topology


def svg(topology: Topology, parent: Topology | None = None) -> str:
    """The network as SVG."""
    return "<svg xmlns='http://www.w3.org/2000/svg'/>"
