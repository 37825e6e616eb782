"""How a trial that trains a supernet tells what it thinks of each choice, and how an algorithm reads it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from katib_flow.history import Trial, Value
from katib_flow.models.topology import Topology

if TYPE_CHECKING:
    from katib_flow.models.space import Space

PROGRESS = "search/progress"
"""The metric that says how much of the search of a supernet is over: 1 when it is."""


def choice_metrics(supernet: Topology, prefix: str) -> Mapping[str, tuple[str, ...]]:
    """For each slot, the metrics of its choices in order: ``alpha/0>1/2-conv3``.

    Args:
        prefix: what is told: ``alpha`` the weights of the choices, ``choice`` 1 for the one that is taken.
    """
    return {
        slot: tuple(f"{prefix}/{slot}/{position}-{name}" for position, name in enumerate(names))
        for slot, names in supernet.flat.groups.items()
    }


def choices_told(supernet: Topology, prefix: str, told: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The metrics of all choices, by what is told of those of each slot."""
    return {
        name: number
        for slot, names in choice_metrics(supernet, prefix).items()
        for name, number in zip(names, told[slot], strict=True)
    }


def choices_taken(supernet: Topology, observations: Mapping[str, float]) -> dict[str, int | None]:
    """The choice that is taken for each slot, by its position, as a trial told it; None where it did not."""
    marks = {
        slot: [observations.get(name) for name in names] for slot, names in choice_metrics(supernet, "choice").items()
    }
    return {slot: told.index(1.0) if 1.0 in told else None for slot, told in marks.items()}


def decisions_taken(space: "Space", trial: Trial) -> dict[str, Value]:
    """The decisions that a segment of the search of a supernet came to; none where it did not report all of them."""
    decisions: dict[str, Value] = {}
    for slot, position in choices_taken(space.supernet(), trial.observations).items():
        if slot not in space.parameters or position is None:
            return {}
        decisions[slot] = space.parameters[slot].nth(position)
    return decisions


def slots_by_node(supernet: Topology) -> list[tuple[str, ...]]:
    """The slots of the edges that lead to each vertex which has any."""
    nodes: dict[tuple[str, str], dict[str, None]] = {}
    for name, graph in supernet.to_dict()["graphs"].items():
        for edge in graph["edges"]:
            if edge["op"] == "mixed":
                nodes.setdefault((name, edge["dst"]), {})[edge["params"]["group"]] = None
    return [tuple(slots) for slots in nodes.values()]
