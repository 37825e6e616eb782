"""A cell that is repeated (Dong and Yang, "NAS-Bench-201", ICLR 2020)."""

from typing import Annotated

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot, stages_of
from katib_flow.spec.model import Count


class Cell(SpaceSettings):
    """Settings of the space ``cell``."""

    nodes: Annotated[int, Field(ge=2, le=8)] = 4
    """Vertices of the cell, including its input; each has edges from all earlier ones."""
    operations: Operations = ("none", "skip", "conv3", "avg3")
    cells: Count = 1
    """Cells of each stage."""
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    """Number of stages; between two of them, maps are halved and channels doubled."""


@preset("cell", Cell)
def cell(settings: Cell) -> Template:
    """A cell that is repeated: an operation on the edge between every two vertices (NAS-Bench-201)."""
    nodes = range(1, settings.nodes)
    pairs = [(before, node) for node in nodes for before in range(node)]
    edges = [edge(str(before), str(node), slot(f"{before}>{node}")) for before, node in pairs]
    inner = {
        "inputs": ["0"],
        "output": str(nodes[-1]),
        "vertices": {str(node): "add" for node in nodes},
        "edges": edges,
    }
    slots = {f"{before}>{node}": {"among": list(settings.operations)} for before, node in pairs}
    return network(
        settings, {"net": stages_of(settings, settings.stages, settings.cells, "@cell"), "cell": inner}, slots
    )
