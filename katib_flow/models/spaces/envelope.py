"""Networks of EnvelopeCells: stages of cells, each a few parallel branches, concatenated and then projected.

Paper: Kamath et al., "Neural Architecture Construction using EnvelopeNets", 2018.
Departs from it: every cell has a projection, a 1 x 1 convolution; skips are concatenated before it.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset
from katib_flow.spec.model import Count

Cells = Sequence[Sequence[Sequence[str]]]
"""The operations of the branches, by stage and cell."""


class Envelope(SpaceSettings):
    """Settings of the space ``envelope``."""

    operations: Operations = ("conv1", "conv3", "sep3", "sep5")
    """The branches of a complete EnvelopeCell."""
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    """Number of stages; between two of them, maps are halved and channels doubled."""
    cells: Count = 1
    """EnvelopeCells of each stage of the initial network."""
    skips: bool = False
    """Whether a cell also reads all earlier cells of its stage, concatenated with the outputs of its branches."""


@preset("envelope", Envelope)
def envelope(settings: Envelope) -> Template:
    """Stages of EnvelopeCells, parallel branches concatenated along the channels, to start from. It has no slots."""
    cells = [[list(settings.operations)] * settings.cells] * settings.stages
    return envelope_network(settings, cells)


def envelope_network(settings: Envelope, cells: Cells) -> Template:
    """The template of a network of some cells; its ``meta`` has the settings and the cells."""
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
    template = network(settings, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, {}, meta=meta)
    return {name: value for name, value in template.items() if name != "slots"}


def branch_key(stage: int, cell: int, op: str) -> str:
    """The key of a branch's edge, which is also the name of its feature statistics."""
    return f"s{stage}.c{cell}.{op}"


def cell_widths(last: int, count: int) -> list[int]:
    """The channels of each of ``count`` cells of a stage whose last cell has ``last`` channels.

    Inner cells have o channels, the positive root of (L - 2) o^2 + 2 w o = w^2, so that the chain
    w -> o -> ... -> o -> w has as many weights as a single step w -> w, whatever its length. For L = 2, o = w / 2.
    """
    if count == 1:
        return [last]
    inner = last / 2 if count == 2 else last / (count - 2) * (math.sqrt(count - 1) - 1)
    return [max(1, int(inner))] * (count - 1) + [last]
