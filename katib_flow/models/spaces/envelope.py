"""Networks of EnvelopeCells: stages of cells, each a few branches side by side, stacked and then projected.

Paper: Kamath et al., "Neural Architecture Construction using EnvelopeNets", 2018.
Departs from it: the projection after the stack is a 1 x 1 convolution that every cell has; skips are stacked before it.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset
from katib_flow.spec.model import Count

Cells = Sequence[Sequence[Sequence[str]]]
"""The branches of each cell of each stage, by their operations."""


class Envelope(SpaceSettings):
    operations: Operations = ("conv1", "conv3", "sep3", "sep5")
    """The branches of a whole EnvelopeCell."""
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    """Maps are halved, and channels doubled, between two of them."""
    cells: Count = 1
    """EnvelopeCells of each stage of the network to start from."""
    skips: bool = False
    """Whether a cell reads the outputs of all earlier cells of its stage, too: stacked with those of its branches."""


@preset("envelope", Envelope)
def envelope(settings: Envelope) -> Template:
    """Stages of EnvelopeCells, parallel branches stacked along the channels, to start from. It has no slots."""
    cells = [[list(settings.operations)] * settings.cells] * settings.stages
    return envelope_network(settings, cells)


def envelope_network(settings: Envelope, cells: Cells) -> Template:
    """The network of some cells; ``meta`` says what it was made of."""
    here, edges = "stem", [edge("x", "stem", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    vertices = {"stem": "add"}
    for stage, inner in enumerate(cells):
        if stage:
            edges.append(edge(here, f"w{stage}", "max", f"widener{stage}", k=2, s=2))
            vertices[f"w{stage}"], here = "add", f"w{stage}"
        widths = cell_widths(settings.channels * 2**stage, len(inner))
        earlier: list[str] = []
        for number, (branches, width) in enumerate(zip(inner, widths, strict=True)):
            at = f"s{stage}.c{number}"
            edges += [edge(here, f"{at}.in", op, branch_key(stage, number, op), c=width) for op in branches]
            edges += [edge(cell, f"{at}.in", "identity", f"{at}.skip.{cell}") for cell in earlier]
            edges.append(edge(f"{at}.in", at, "conv1", f"{at}.out", c=width))
            earlier += [at] * settings.skips
            vertices |= {f"{at}.in": "concat", at: "add"}
            here = at
    edges.append(edge(here, "y", "head", "head", classes=settings.classes))
    meta: dict[str, Any] = {
        "envelope": settings.model_dump(mode="json"),
        "cells": [[list(c) for c in s] for s in cells],
    }
    made = network(settings, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, {}, meta=meta)
    return {name: value for name, value in made.items() if name != "slots"}


def branch_key(stage: int, cell: int, op: str) -> str:
    """The edge of a branch; its feature statistics bear this name."""
    return f"s{stage}.c{cell}.{op}"


def cell_widths(last: int, count: int) -> list[int]:
    """Channels of each cell of a stage of ``count`` cells whose last has ``last``.

    Inner cells have o, the positive root of (L - 2) o^2 + 2 w o = w^2: then the chain w -> o -> ... -> o -> w has as
    many weights as one step w -> w, however long it grows. For L = 2 that is the limit, w / 2.
    """
    if count == 1:
        return [last]
    inner = last / 2 if count == 2 else last / (count - 2) * (math.sqrt(count - 1) - 1)
    return [max(1, int(inner))] * (count - 1) + [last]
