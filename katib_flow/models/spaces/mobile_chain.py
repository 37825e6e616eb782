"""A chain of inverted residuals, each of its own kind (Cai et al., "ProxylessNAS", ICLR 2019)."""

from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import SpaceSettings, Template, edge, network, preset, slot
from katib_flow.spec.model import Count


class MobileChain(SpaceSettings):
    """Settings of the space ``mobile-chain``."""

    stages: Annotated[int, Field(ge=1, le=7)] = 2
    """Number of stages; between two of them, maps are halved and channels doubled."""
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    """The most layers of a stage; their number is searched."""
    kernels: Annotated[tuple[Count, ...], Field(min_length=1)] = (3, 5, 7)
    """Sizes of kernels to choose from."""
    expansions: Annotated[tuple[Count, ...], Field(min_length=1)] = (3, 6)
    """Expansion ratios to choose from."""


@preset("mobile-chain", MobileChain)
def mobile_chain(settings: MobileChain) -> Template:
    """A chain of inverted residuals: kernel and expansion of each, or ``none`` to leave the layer out (ProxylessNAS).

    In all stages but the first, the first layer changes the shape, so it has no shortcut and cannot be left out. Slots
    ``1.1``, ``1.2``, ``2.1`` ...
    """
    operations = {
        f"mbconv{e}-{k}x{k}": {"op": "mbconv", "params": {"e": e, "k": k}}
        for k in settings.kernels
        for e in settings.expansions
    }
    edges = [edge("x", "0", "conv", "stem", c=settings.channels, order="conv-bn-relu")]
    slots, here, channels = dict[str, Any](), "0", settings.channels
    for stage in range(1, settings.stages + 1):
        channels *= 1 if stage == 1 else 2
        for layer in range(1, settings.layers + 1):
            there, halves = f"{stage}.{layer}", stage > 1 and layer == 1
            slots[there] = {"among": [*operations] if halves else [*operations, "none"]}
            stride = {"s": 2} if halves else {}
            edges.append(edge(here, there, slot(there), there, c=channels, **stride))
            if not halves:
                edges.append(edge(here, there, "identity", f"{there}+"))
            here = there
    edges.append(edge(here, "y", "head", "head", classes=settings.classes))
    graph = {"vertices": {link["dst"]: "add" for link in edges}, "edges": edges}
    return network(settings, {"net": graph}, slots, operations=operations)
