"""Blocks of equal layers (Tan et al., "MnasNet", CVPR 2019)."""

from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count


class Mobile(SpaceSettings):
    """Settings of the space ``mobile``."""

    blocks: Annotated[int, Field(ge=1, le=7)] = 3
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    """The most layers of a block; their number is searched."""
    reductions: tuple[Count, ...] = (2,)
    """Blocks, numbered from 1, that halve maps and double channels."""
    widths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.75, 1.0, 1.25)
    """Factors of a block's channels to choose from."""


@preset("mobile", Mobile)
def mobile(settings: Mobile) -> Template:
    """Blocks of equal layers: convolution, kernel, squeeze-excite, skip, width and depth of each (MnasNet)."""
    edges = [edge("x", "0.0", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    slots: dict[str, Any] = {}
    channels, ends = settings.channels, ["0.0"]
    for block in range(1, settings.blocks + 1):
        halved = block in settings.reductions
        channels *= 2 if halved else 1
        slots |= {
            f"{block}.op": {"among": ["conv", "sep", "mbconv3", "mbconv6"]},
            f"{block}.k": {"among": [3, 5]},
            f"{block}.se": {"among": [0.0, 0.25], "when": {f"{block}.op": ["mbconv3", "mbconv6"]}},
            f"{block}.c": {"among": sorted({max(1, round(channels * width)) for width in settings.widths})},
            f"{block}.skip": {"among": ["none", "identity"]},
            f"{block}.layers": {"type": "int", "min": 1, "max": settings.layers},
        }
        _block(edges, block, settings.layers, halved=halved)
        ends.append(f"{block}")
    operations = {f"mbconv{e}": {"op": "mbconv", "params": {"e": e}} for e in (3, 6)}
    edges.append(edge(ends[-1], "y", "head", "head", classes=settings.classes))
    vertices = {link["dst"]: "add" for link in edges}
    return network(settings, {"net": {"vertices": vertices, "edges": edges}}, slots, operations=operations)


def _block(edges: list[Template], block: int, layers: int, *, halved: bool) -> None:
    """Add the layers of a block; the first sets channels and size, and the last one that exists gives the output."""
    here = f"{block - 1}" if block > 1 else "0.0"
    params = {"c": slot(f"{block}.c"), "k": slot(f"{block}.k"), "se": slot(f"{block}.se")}
    for layer in range(1, layers + 1):
        there, deep = f"{block}.{layer}", {f"{block}.layers": list(range(layer, layers + 1))}
        stride = {"s": 2} if halved and layer == 1 else {}
        edges.append({**edge(here, there, slot(f"{block}.op"), there, **(params | stride)), "when": deep})
        if layer > 1:
            skipped = {**deep, f"{block}.skip": ["identity"]}
            edges.append({**edge(here, there, "identity", f"{there}+"), "when": skipped})
        edges.append({**edge(there, f"{block}", "identity", f"{there}="), "when": {f"{block}.layers": [layer]}})
        here = there
