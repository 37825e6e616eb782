"""The costs of the choices of a supernet, which a search can weigh against accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from katib_flow.models.layers import Mixed, flow, total
from katib_flow.models.topology import Topology
from katib_flow.nas.door import Later

if TYPE_CHECKING:
    from torch import Tensor

    from katib_flow.models import latency
else:
    latency = Later("katib_flow.models.latency")

Costs = Mapping[str, tuple[float, ...]]
"""The cost of each choice of a slot, on all edges of the slot, by slot; the sum over the choices of an architecture is
the cost of its searched edges."""


def choice_flops(supernet: Topology) -> Costs:
    """The FLOPs of every choice, counting two per multiply-accumulate."""
    return _by_slot(
        supernet,
        (
            (layer.group, position, 2.0 * total(path, shape)[1])
            for edge in supernet.flat.live.edges
            for layer, shape in zip(edge.layers, flow(edge.layers, supernet.shapes[edge.src]), strict=False)
            if isinstance(layer, Mixed)
            for position, path in enumerate(layer.paths)
        ),
    )


def choice_milliseconds(supernet: Topology, table: latency.Table) -> Costs:
    """The latency of every choice for one image, in milliseconds, from a table.

    Raises:
        KatibFlowError: a choice is missing from the table.
    """
    choices = [operation for operation in latency.operations_on_maps(supernet) if operation.choice is not None]
    times = latency.milliseconds(choices, table)
    of_choices = (operation.choice for operation in choices)
    return _by_slot(supernet, ((*choice, time) for choice, time in zip(of_choices, times, strict=True) if choice))


def choice_times(supernet: Topology, source: str) -> Costs:
    """The cost of every choice: milliseconds ``measured`` here, or from a table in a file, or ``flops``.

    Args:
        source: ``measured``, ``flops``, or the path of a file.

    Raises:
        KatibFlowError: the file has no table, or a choice is missing from it.
    """
    if source == "flops":
        return choice_flops(supernet)
    measured = source == "measured"
    return choice_milliseconds(
        supernet, latency.measured_table([supernet]) if measured else latency.load_table(Path(source))
    )


def _by_slot(supernet: Topology, costs: Iterable[tuple[str, int, float]]) -> Costs:
    """Sum costs by slot and position."""
    sums = {slot: [0.0] * len(names) for slot, names in supernet.flat.groups.items()}
    for slot, position, cost in costs:
        sums[slot][position] += cost
    return {slot: tuple(choices) for slot, choices in sums.items()}


def shares_of_largest(costs: Costs) -> Costs:
    """Costs as shares of the cost of the most expensive architecture; zeros if that costs nothing."""
    largest = sum(map(max, costs.values()))
    return {slot: tuple(cost / largest if largest else 0.0 for cost in choices) for slot, choices in costs.items()}


def expected(costs: Costs, weights: Mapping[str, Tensor]) -> Tensor:
    """The weighted cost of an architecture; with probabilities as weights, the expected cost.

    It is linear in the weights, and differentiable (Xie et al., ICLR 2019, section 2.4; Cai et al., ICLR 2019,
    equation 7).

    Args:
        weights: the weight of each choice, shape (choice,), by slot.
    """
    parts = [(weight * weight.new_tensor(costs[slot])).sum() for slot, weight in weights.items()]
    return sum(parts[1:], start=parts[0])
