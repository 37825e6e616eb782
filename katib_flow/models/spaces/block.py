"""A block as a sequence of layers, each with a kind and the layers that it reads (Zhong et al., CVPR 2018)."""

from typing import Annotated

from pydantic import Field

from katib_flow.models.presets import Operations, SpaceSettings, Template, edge, network, preset, slot, stages_of
from katib_flow.spec.model import Count

END = "end"
MERGES = ("add", "concat")


class BlockSettings(SpaceSettings):
    """Settings of the space ``block``."""

    layers: Annotated[int, Field(ge=1, le=23)] = 5
    """The most layers of a block, which may end earlier. Zhong et al. (2018) have 23."""
    operations: Operations = ("conv1", "conv3", "conv5", "max3", "avg3", "skip")
    """Operations of layers that read one earlier layer; other layers add or concatenate two."""
    blocks: Count = 1
    """Blocks of each stage."""
    stages: Annotated[int, Field(ge=1, le=5)] = 2
    """Number of stages; between two of them, maps are halved and channels doubled."""


@preset("block", BlockSettings)
def block(settings: BlockSettings) -> Template:
    """A block that is repeated: a sequence of layers of variable length, each reading earlier ones.

    Zhong et al., CVPR 2018, section 3.1 and Table 1: the network structure code. Slots ``2.kind``, ``2.first``, and
    ``2.second`` if two layers are added or concatenated; vertex 0 is the input. The output of the block concatenates
    the layers that no other layer reads.
    """
    edges: list[Template] = [edge("x", "0", "fit", "fit", c="$c")]
    slots: Template = {}
    vertices = {"0": "add"}
    for layer in range(1, settings.layers + 1):
        earlier = [str(number) for number in range(layer)]
        here, kind, first, second = str(layer), f"{layer}.kind", f"{layer}.first", f"{layer}.second"
        there = {} if layer == 1 else {"when": {f"{layer - 1}.kind": [*settings.operations, *MERGES]}}
        ends = [] if layer == 1 else [END]
        slots[kind] = {"among": [*settings.operations, *MERGES, *ends], **there}
        slots[first] = {"among": earlier, "when": {kind: [*settings.operations, *MERGES]}}
        slots[second] = {"among": earlier, "when": {kind: list(MERGES)}}
        vertices |= {f"{here}.add": "add", f"{here}.concat": "concat", here: "add"}
        edges += [{**edge(slot(first), here, op, f"{here}.{op}"), "when": {kind: [op]}} for op in settings.operations]
        for merge, op in zip(MERGES, ("identity", "conv1"), strict=True):
            inside, chosen = f"{here}.{merge}", {"when": {kind: [merge]}}
            sized = {"c": "$c"} if op == "conv1" else {}
            joined = [edge(slot(source), inside, "identity", f"{inside}.{source}") for source in (first, second)]
            edges += [{**one, **chosen} for one in (*joined, edge(inside, here, op, f"{inside}>", **sized))]
    layers = [str(layer) for layer in range(1, settings.layers + 1)]
    inner = {"inputs": ["x"], "output": "y", "vertices": {**vertices, "y": "concat"}, "edges": edges, "loose": layers}
    return network(
        settings,
        {"net": stages_of(settings, settings.stages, settings.blocks, "@block", sized=True), "block": inner},
        slots,
    )
