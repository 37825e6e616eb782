"""How a trial that trains a supernet tells what it thinks of each choice, and how an algorithm reads it."""

from collections.abc import Mapping

from katib_flow.models.topology import Topology

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
