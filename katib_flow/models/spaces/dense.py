"""The space that Liu et al. ("DARTS", ICLR 2019) relax."""

from katib_flow.models.presets import Operations, Template, edge, network, preset, slot
from katib_flow.models.spaces.pairs import Pairs, fitted, two_input_cell, two_inputs


class Dense(Pairs):
    """Settings of the space ``dense``."""

    operations: Operations = ("none", "skip", "sep3", "dil3", "avg3", "max3")


@preset("dense", Dense)
def dense(settings: Dense) -> Template:
    """As ``pairs``, but every node has edges from all earlier ones: the space that Liu et al. (2019) relax."""
    graphs: Template = {"net": two_inputs(settings, settings.stages, settings.cells)}
    slots: Template = {}
    for name in ("normal", "reduce")[: settings.stages]:  # a single stage has no reduction
        edges = fitted()
        for node in range(2, settings.nodes + 2):
            for before in range(node):
                slots[f"{name}.{before}>{node}"] = {"among": list(settings.operations)}
                stride = {"s": 2} if name == "reduce" and before < 2 else {}
                edges.append(
                    edge(str(before), str(node), slot(f"{name}.{before}>{node}"), f"{before}>{node}", **stride)
                )
        graphs[name] = two_input_cell(settings.nodes, edges, loose=False)
    return network(settings, graphs, slots)
