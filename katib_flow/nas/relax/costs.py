"""What the choices of a supernet cost, so that a search can weigh accuracy against it."""

from collections.abc import Mapping

from katib_flow.models.layers import Mixed, flow, total
from katib_flow.models.topology import Topology

Costs = Mapping[str, tuple[float, ...]]
"""By slot, what each of its choices costs on all edges of the slot, in FLOPs (two a multiply-accumulate)."""


def choice_flops(supernet: Topology) -> Costs:
    """The FLOPs of every choice; their sum over the choices of an architecture is what its searched edges cost."""
    costs = {slot: [0.0] * len(names) for slot, names in supernet.flat.groups.items()}
    for edge in supernet.flat.live.edges:
        shapes = flow(edge.layers, supernet.shapes[edge.src])
        for layer, shape in zip(edge.layers, shapes, strict=False):
            if isinstance(layer, Mixed):
                for position, path in enumerate(layer.paths):
                    costs[layer.group][position] += 2 * total(path, shape)[1]
    return {slot: tuple(choices) for slot, choices in costs.items()}


def shares_of_largest(costs: Costs) -> Costs:
    """The same as shares of what the costliest architecture costs; zeros where nothing costs anything."""
    largest = sum(map(max, costs.values()))
    return {slot: tuple(cost / largest if largest else 0.0 for cost in choices) for slot, choices in costs.items()}
