"""How a trial that trains a supernet reports the networks that its search has chosen, and how algorithms read them.

A network is reported as the position of its choice for each slot: ``choice/<slot>`` for the best network,
``rival/2/<slot>`` for the second best, and so on. The weights of all choices, ``alpha/<slot>/<choice>``, are reported
for people to look at.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from katib_flow.history import Trial, Value
from katib_flow.models.topology import Topology

if TYPE_CHECKING:
    from katib_flow.models.space import Space

PROGRESS = "search/progress"
"""The metric for the progress of a supernet's search, from 0 to 1, when it is over."""


def weight_metrics(supernet: Topology) -> Mapping[str, tuple[str, ...]]:
    """The names of the metrics for the weights of each slot's choices, in order: ``alpha/0>1/2-conv3``."""
    return {
        slot: tuple(f"alpha/{slot}/{position}-{name}" for position, name in enumerate(names))
        for slot, names in supernet.flat.groups.items()
    }


def weight_values(supernet: Topology, weights: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The metrics that report the weights of all choices.

    Args:
        weights: those of each slot's choices, in order.
    """
    return {
        name: weight
        for slot, names in weight_metrics(supernet).items()
        for name, weight in zip(names, weights[slot], strict=True)
    }


def choice_metric(slot: str, rank: int = 1) -> str:
    """The name of the metric for a slot's choice in the network of a rank, where 1 is the best."""
    return f"choice/{slot}" if rank == 1 else f"rival/{rank}/{slot}"


def choice_metrics(networks: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """The metrics that report some networks, best first, each the position of its choice for each slot."""
    return {
        choice_metric(slot, rank): float(position)
        for rank, choice in enumerate(networks, 1)
        for slot, position in choice.items()
    }


def reported_networks(supernet: Topology, observations: Mapping[str, float]) -> list[dict[str, int]]:
    """The networks that a trial reported, best first, up to the first one without a valid choice for every slot."""
    return list(itertools.takewhile(bool, (_taken(supernet, observations, rank) for rank in itertools.count(1))))


def _taken(supernet: Topology, observations: Mapping[str, float], rank: int) -> dict[str, int]:
    taken = {
        slot: int(position)
        for slot, names in supernet.flat.groups.items()
        if (position := observations.get(choice_metric(slot, rank), -1.0)) in range(len(names))
    }
    return taken if len(taken) == len(supernet.flat.groups) else {}


def reported_decisions(space: "Space", trial: Trial) -> list[dict[str, Value]]:
    """The decisions of the networks that a segment of a supernet's search reported, best first."""
    networks = reported_networks(space.supernet(), trial.observations)
    return [{slot: space.parameters[slot].nth(network[slot]) for slot in network} for network in networks]


def slots_by_node(supernet: Topology) -> list[tuple[str, ...]]:
    """The slots of the mixed edges into each vertex; vertices without such edges are left out."""
    nodes: dict[tuple[str, str], dict[str, None]] = {}
    for name, graph in supernet.to_dict()["graphs"].items():
        for edge in graph["edges"]:
            if edge["op"] == "mixed":
                nodes.setdefault((name, edge["dst"]), {})[edge["params"]["group"]] = None
    return [tuple(slots) for slots in nodes.values()]
