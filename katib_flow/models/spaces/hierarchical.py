"""Motifs within motifs (Liu et al., "Hierarchical Representations", ICLR 2018)."""

from typing import Annotated, Literal

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot, stages_of
from katib_flow.spec.model import Count


class Hierarchical(SpaceSettings):
    """Settings of the space ``hierarchical``."""

    motifs: Annotated[int, Field(ge=1, le=12)] = 3
    """Motifs of level 2. Liu et al. have 6."""
    motif_nodes: Annotated[int, Field(ge=2, le=6)] = 3
    """Vertices of a motif, including its input."""
    nodes: Annotated[int, Field(ge=2, le=6)] = 3
    """Vertices of the cell, the motif of level 3, including its input."""
    operations: Operations = ("none", "skip", "conv1", "dw3", "sep3", "max3", "avg3")
    merge: Literal["add", "concat"] = "add"
    """How a node merges its inputs; as in the paper, a 1 x 1 convolution restores the channels after ``concat``."""
    stages: Annotated[int, Field(ge=1, le=4)] = 2
    """Number of stages; between two of them, maps are halved and channels doubled."""
    cells: Count = 1
    """Cells of each stage."""


@preset("hierarchical", Hierarchical)
def hierarchical(settings: Hierarchical) -> Template:
    """Motifs made of operations, a cell made of motifs (Liu et al., ICLR 2018); slots ``m0.0>1`` and ``cell.0>1``.

    Three levels: operations, motifs, the cell.
    """
    names = [f"m{number}" for number in range(settings.motifs)]
    slots: Template = {}
    stacked = settings.merge == "concat"
    graphs: Template = {"net": stages_of(settings, settings.stages, settings.cells, "@cell", sized=stacked)}
    for name in names:
        graphs[name] = _triangle(name, settings.motif_nodes, slots, list(settings.operations), stacked=stacked)
    graphs["none"] = {"inputs": ["0"], "output": "1", "vertices": {"1": "add"}, "edges": [edge("0", "1", "none")]}
    graphs["cell"] = _triangle(
        "cell", settings.nodes, slots, ["@none", *(f"@{name}" for name in names)], stacked=stacked, sized=stacked
    )
    return network(settings, graphs, slots)


def _triangle(
    name: str, nodes: int, slots: Template, among: list[str], *, stacked: bool, sized: bool = False
) -> Template:
    """A graph with an edge between every two nodes.

    Args:
        among: the operations to choose from.
        stacked: whether nodes concatenate their inputs.
        sized: whether the operations get their number of channels as ``$c``.
    """
    pairs = [(before, node) for node in range(1, nodes) for before in range(node)]
    slots |= {f"{name}.{before}>{node}": {"among": among} for before, node in pairs}
    inside, given = ".in" if stacked else "", {"c": "$c"} if sized else {}
    edges = [
        edge(str(before), f"{node}{inside}", slot(f"{name}.{before}>{node}"), f"{before}>{node}", **given)
        for before, node in pairs
    ]
    vertices = {str(node): "add" for node in range(1, nodes)}
    if stacked:
        edges += [edge(f"{node}.in", str(node), "conv1", f"{node}.fit", c="$c") for node in range(1, nodes)]
        vertices |= {f"{node}.in": "concat" for node in range(1, nodes)}
    return {"inputs": ["0"], "output": str(nodes - 1), "vertices": vertices, "edges": edges}
