"""How a trial that trains a supernet tells which networks its search has come to, and how an algorithm reads it.

A network is the position of a choice for each slot: ``choice/<slot>`` of the best, ``rival/<rank>/<slot>`` of the one
that comes second, and so on. What a search thinks of each choice, ``alpha/<slot>/<choice>``, is for people.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from katib_flow.history import Trial, Value
from katib_flow.models.topology import Topology

if TYPE_CHECKING:
    from katib_flow.models.space import Space

PROGRESS = "search/progress"
"""The metric that says how much of the search of a supernet is over: 1 when it is."""


def weight_metrics(supernet: Topology) -> Mapping[str, tuple[str, ...]]:
    """For each slot, the metrics of the weights of its choices, in order: ``alpha/0>1/2-conv3``."""
    return {
        slot: tuple(f"alpha/{slot}/{position}-{name}" for position, name in enumerate(names))
        for slot, names in supernet.flat.groups.items()
    }


def weights_told(supernet: Topology, weights: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The metrics of the weights of all choices, by those of each slot."""
    return {
        name: weight
        for slot, names in weight_metrics(supernet).items()
        for name, weight in zip(names, weights[slot], strict=True)
    }


def choice_metric(slot: str, rank: int = 1) -> str:
    """The metric that is the position of the choice of a slot, in the network of a rank; the best has 1."""
    return f"choice/{slot}" if rank == 1 else f"rival/{rank}/{slot}"


def choices_told(networks: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """The metrics of some networks, the best first: the position of the choice of each slot."""
    return {
        choice_metric(slot, rank): float(position)
        for rank, choice in enumerate(networks, 1)
        for slot, position in choice.items()
    }


def choices_taken(supernet: Topology, observations: Mapping[str, float]) -> list[dict[str, int]]:
    """The networks that a trial told, the best first, up to the first of which it did not tell every choice."""
    return list(itertools.takewhile(bool, (_taken(supernet, observations, rank) for rank in itertools.count(1))))


def _taken(supernet: Topology, observations: Mapping[str, float], rank: int) -> dict[str, int]:
    taken = {
        slot: int(position)
        for slot, names in supernet.flat.groups.items()
        if (position := observations.get(choice_metric(slot, rank), -1.0)) in range(len(names))
    }
    return taken if len(taken) == len(supernet.flat.groups) else {}


def decisions_taken(space: "Space", trial: Trial) -> list[dict[str, Value]]:
    """The decisions of the networks that a segment of the search of a supernet came to, the best first."""
    networks = choices_taken(space.supernet(), trial.observations)
    return [{slot: space.parameters[slot].nth(network[slot]) for slot in network} for network in networks]


def slots_by_node(supernet: Topology) -> list[tuple[str, ...]]:
    """The slots of the edges that lead to each vertex which has any."""
    nodes: dict[tuple[str, str], dict[str, None]] = {}
    for name, graph in supernet.to_dict()["graphs"].items():
        for edge in graph["edges"]:
            if edge["op"] == "mixed":
                nodes.setdefault((name, edge["dst"]), {})[edge["params"]["group"]] = None
    return [tuple(slots) for slots in nodes.values()]
