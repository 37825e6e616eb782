"""Networks as memory banks that operations read and write (Brock et al., "SMASH", ICLR 2018)."""

from typing import Annotated, Any

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot


class Banks(SpaceSettings):
    """Settings of the space ``banks``."""

    stages: Annotated[int, Field(ge=1, le=4)] = 2
    """Number of stages; between two of them, maps are halved and the channels of a bank doubled."""
    layers: Annotated[int, Field(ge=1, le=16)] = 4
    """Operations of each stage."""
    banks: Annotated[int, Field(ge=2, le=8)] = 3
    """Memory banks of each stage."""
    operations: Operations = ("conv3", "conv5", "dil3", "sep3")


@preset("banks", Banks)
def banks(settings: Banks) -> Template:
    """Operations that read some banks, concatenated, through a 1 x 1 convolution, and add to some (SMASH).

    Each operation of a stage reads the bank that the previous one wrote, and writes to the next bank, so they form a
    chain. Slots ``1.2.read0``, ``1.2.write1`` say which other banks with content it reads and writes, and ``1.2.op`` is
    the operation. Residual, dense and branched networks are special cases. The output of a stage is the concatenation
    of its banks.
    """
    edges = [edge("x", "1.b0.0", "conv", "stem", c=settings.channels, order="conv-bn")]
    vertices, slots, channels = {"1.b0.0": "add"}, dict[str, Any](), settings.channels
    for stage in range(1, settings.stages + 1):
        held = {0: f"{stage}.b0.0"}  # the vertex with the current content of each bank
        for layer in range(1, settings.layers + 1):
            at = f"{stage}.{layer}"
            home, next_one = (layer - 1) % settings.banks, layer % settings.banks
            vertices |= {f"{at}.in": "concat", f"{at}.fit": "add", f"{at}.out": "add"}
            for bank, vertex in sorted(held.items()):
                edges.append(
                    _optional(edge(vertex, f"{at}.in", "identity", f"{at}<{bank}"), bank == home, f"{at}.read{bank}")
                )
            edges.append(edge(f"{at}.in", f"{at}.fit", "conv1", f"{at}.fit", c=channels))
            edges.append(edge(f"{at}.fit", f"{at}.out", slot(f"{at}.op"), f"{at}.op"))
            slots[f"{at}.op"] = {"among": list(settings.operations)}
            for bank in sorted({*held, next_one}):
                vertex = f"{stage}.b{bank}.{layer}"
                vertices[vertex] = "add"
                if bank in held:
                    edges.append(edge(held[bank], vertex, "identity", f"{vertex}="))
                edges.append(
                    _optional(
                        edge(f"{at}.out", vertex, "identity", f"{at}>{bank}"), bank == next_one, f"{at}.write{bank}"
                    )
                )
                held[bank] = vertex
        vertices[f"{stage}.all"] = "concat"
        edges += [
            edge(vertex, f"{stage}.all", "identity", f"{stage}.all<{bank}") for bank, vertex in sorted(held.items())
        ]
        if stage < settings.stages:
            channels *= 2
            edges.append(edge(f"{stage}.all", f"{stage + 1}.b0.0", "reduce", f"{stage}.reduce", c=channels))
            vertices[f"{stage + 1}.b0.0"] = "add"
    edges.append(edge(f"{settings.stages}.all", "y", "head", "head", classes=settings.classes))
    for link in edges:
        slots |= {name: {"among": [False, True]} for name in link.get("when", {})}
    return network(settings, {"net": {"vertices": {**vertices, "y": "add"}, "edges": edges}}, slots)


def _optional(link: Template, always: bool, name: str) -> Template:
    """An edge that always exists, or only if a slot is true."""
    return link if always else {**link, "when": {name: [True]}}
