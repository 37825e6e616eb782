"""A plain network to start from."""

from katib_flow.models.presets import SpaceSettings, Template, edge, network, preset
from katib_flow.spec.model import Count


class Chain(SpaceSettings):
    """Settings of the space ``chain``."""

    layers: tuple[Count, ...] = (8, 8)
    """Channels of each layer; without layers, the network is linear in the mean of each channel."""
    reductions: tuple[Count, ...] = (1,)
    """Layers, numbered from 1, after which maps are halved."""


@preset("chain", Chain)
def chain(settings: Chain) -> Template:
    """A plain chain of convolutions to start from; for systems that modify a network (morphisms). It has no slots."""
    edges, here = list[Template](), "x"
    if not settings.layers:  # an edge after which layers can be inserted
        edges, here = [edge("x", "0", "identity", "stem")], "0"
    for number, channels in enumerate(settings.layers, 1):
        edges.append(edge(here, f"{number}", "conv", f"conv{number}", c=channels, order="conv-bn-relu"))
        here = f"{number}"
        if number in settings.reductions:
            edges.append(edge(here, f"{number}.pool", "max", f"pool{number}", k=2, s=2))
            here = f"{number}.pool"
    edges.append(edge(here, "y", "head", "head", classes=settings.classes, norm=False))
    return network(settings, {"net": {"vertices": {link["dst"]: "add" for link in edges}, "edges": edges}}, {})
