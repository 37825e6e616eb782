"""A whole network, layer by layer."""

from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count


class Macro(SpaceSettings):
    """Settings of the space ``macro``."""

    layers: Annotated[int, Field(ge=1, le=24)] = 4
    operations: Operations = ("conv3", "conv5", "sep3", "sep5", "avg3", "max3")
    skips: bool = True
    """Whether each layer may also read any earlier one."""
    reductions: tuple[Count, ...] = (2,)
    """Layers, numbered from 1, after which maps are halved and channels doubled."""


@preset("macro", Macro)
def macro(settings: Macro) -> Template:
    """A whole network, layer by layer: the operation of each, and which earlier layers it reads besides the last.

    The inputs of a layer are concatenated, and a 1 x 1 convolution restores the number of channels; slots ``2.op``,
    ``2.skip0``. Pham et al., ICML 2018; Zoph and Le, ICLR 2017.
    """
    channels, slots = settings.channels, dict[str, Any]()
    edges = [edge("x", "0", "conv", "stem", c=channels, order="conv-bn")]
    vertices, level = {"0": "add"}, {0: 0}
    for layer in range(1, settings.layers + 1):
        level[layer] = sum(layer - 1 >= after for after in settings.reductions)
        c = channels * 2 ** level[layer]
        vertices |= {f"{layer}.in": "concat", f"{layer}.fit": "add", f"{layer}": "add"}
        for before in range(layer):
            stride = 2 ** (level[layer] - level[before])
            skip_edge = edge(f"{before}", f"{layer}.in", "fit", f"{before}>{layer}", c=c, s=stride)
            if before < layer - 1:
                if not settings.skips:
                    continue
                slots[f"{layer}.skip{before}"] = {"among": [False, True]}
                skip_edge["when"] = {f"{layer}.skip{before}": [True]}
            edges.append(skip_edge)
        slots[f"{layer}.op"] = {"among": list(settings.operations)}
        edges.append(edge(f"{layer}.in", f"{layer}.fit", "conv1", f"{layer}.fit", c=c))
        edges.append(edge(f"{layer}.fit", f"{layer}", slot(f"{layer}.op"), f"{layer}.op"))
    edges.append(edge(f"{settings.layers}", "y", "head", "head", classes=settings.classes))
    return network(settings, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, slots)
