"""Choices in a supernet: one position for each group, which select one network, with a hash and a size."""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.models.choices import slots_by_node
from katib_flow.models.layers import Conv, Linear, Mixed
from katib_flow.models.topology import Topology
from katib_flow.wording import counted

Choice = Mapping[str, int]
"""The chosen position of each group, by the name of the group."""

LEAST = 1e-300  # lower bound of a weight before its logarithm is taken
PATIENCE = 10_000  # largest number of choices to try for a network within the bounds, or for a new one


def chosen(supernet: Topology, choice: Choice) -> Topology:
    """The network of a choice: every edge with its chosen operation, and without the edges that are not chosen."""
    data = supernet.to_dict()
    graphs: dict[str, Any] = {}
    for name, graph in data["graphs"].items():
        edges = [_edge(edge, choice) for edge in graph["edges"]]
        graphs[name] = {**graph, "edges": [edge for edge in edges if edge is not None]}
    return Topology.parse({**data, "graphs": graphs})


def _edge(edge: Mapping[str, Any], choice: Choice) -> dict[str, Any] | None:
    params = edge.get("params", {})
    match edge["op"]:
        case "mixed":
            one = params["among"][choice[params["group"]]]
        case "optional":
            if choice[params["group"]] != params.get("position", 1):
                return None
            one = params["of"]
        case _:
            return dict(edge)
    return {**edge, "params": {}, **({"op": one} if isinstance(one, str) else one)}


def leaning(supernet: Topology, share: float, squash: float) -> list[list[float]]:
    """Biases for a controller that initially prefers operations with weights: a list for each group.

    The controller's logits are ``squash * tanh(bias / 5)``, which bounds the preference. A group without preference has
    equal biases: one in which all choices have weights, or none, or enough of them, or one that decides whether an edge
    exists.

    Args:
        share: the least probability of operations with weights.
        squash: the bound of the controller's logits.
    """
    groups: dict[str, list[float]] = {group: [] for group in supernet.flat.groups}
    for layer in (layer for edge in supernet.flat.edges for layer in edge.layers if isinstance(layer, Mixed)):
        trained = [any(isinstance(part, Conv | Linear) for part in path) for path in layer.paths]
        count, others = sum(trained), len(trained) - sum(trained)
        odds = share / (1 - share) * others / count if count and "out" not in layer.names else 1.0
        more = 5 * math.atanh(min(0.99, math.log(max(odds, 1.0)) / 2 / squash)) if others else 0.0
        groups[layer.group] = [more if has_weights else -more for has_weights in trained]
    return list(groups.values())


def ranked(supernet: Topology, shares: Mapping[str, Sequence[float]], inputs: int) -> Iterator[Choice]:
    """Derived choices: that of DARTS, section 2.4, then others with the same edges, by the product of their weights.

    A node keeps the edges whose heaviest operation other than "none" has the largest weight. Edges without the choice
    "none" stay as well.

    Args:
        shares: the weight of each choice, by slot.
        inputs: number of edges that a node keeps.
    """
    gone: dict[str, int] = {}
    kept: dict[str, list[int]] = {}
    for slots in slots_by_node(supernet):
        names = {slot: supernet.flat.groups[slot] for slot in slots}
        some = {
            slot: [position for position, name in enumerate(names[slot]) if name != "none"] or [0] for slot in slots
        }
        best = {
            slot: sorted(some[slot], key=lambda position, weights=shares[slot]: -weights[position]) for slot in slots
        }
        for rank, slot in enumerate(sorted(slots, key=lambda slot: -shares[slot][best[slot][0]])):
            if rank >= inputs and "none" in names[slot]:
                gone[slot] = names[slot].index("none")
            else:
                kept[slot] = best[slot]
    logs = [[math.log(max(shares[slot][position], LEAST)) for position in kept[slot]] for slot in kept]
    for positions in heaviest(logs):
        yield gone | {slot: kept[slot][position] for slot, position in zip(kept, positions, strict=True)}


def likeliest(log_chances: Mapping[str, Sequence[float]]) -> Iterator[Choice]:
    """All choices, the most likely first, if the groups are independent; ties go by position.

    Args:
        log_chances: the log probability of each choice, by group.
    """
    orders = {
        slot: sorted(range(len(logs)), key=lambda position, logs=logs: -logs[position])
        for slot, logs in log_chances.items()
    }
    falling = [[log_chances[slot][position] for position in order] for slot, order in orders.items()]
    for ranks in heaviest(falling):
        yield {slot: order[rank] for (slot, order), rank in zip(orders.items(), ranks, strict=True)}


def heaviest(weights: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """All combinations of one position in every list, the largest sum of weights first.

    Args:
        weights: lists in descending order.
    """
    first: tuple[int, ...] = (0,) * len(weights)
    heap: list[tuple[float, tuple[int, ...]]] = [(-sum(falling[0] for falling in weights), first)]
    seen: set[tuple[int, ...]] = {first}
    while heap:
        minus, positions = heapq.heappop(heap)
        yield positions
        for at, position in enumerate(positions):
            after = (*positions[:at], position + 1, *positions[at + 1 :])
            if position + 1 < len(weights[at]) and after not in seen:
                seen.add(after)
                heapq.heappush(heap, (minus + weights[at][position] - weights[at][position + 1], after))


class Bounds:
    """Upper bounds on the size of derived networks; also identifies the networks of choices.

    Attributes:
        parameters, flops: the largest allowed numbers; None for no bound.
    """

    def __init__(self, supernet: Topology, parameters: int | None = None, flops: int | None = None) -> None:
        self.supernet, self.parameters, self.flops = supernet, parameters, flops
        self._networks: dict[tuple[tuple[str, int], ...], tuple[str, int, int]] = {}

    def network(self, choice: Choice) -> tuple[str, int, int]:
        """The hash of a choice's network, its number of parameters, and its floating-point operations for one image."""
        key = tuple(choice.items())
        if key not in self._networks:
            network = chosen(self.supernet, choice)
            self._networks[key] = network.hash, network.parameters, network.flops
        return self._networks[key]

    def hold(self, choice: Choice) -> bool:
        """Whether the network of a choice is within the bounds."""
        if self.parameters is None and self.flops is None:
            return True
        _, parameters, flops = self.network(choice)
        return (self.parameters is None or parameters <= self.parameters) and (
            self.flops is None or flops <= self.flops
        )

    def within(self, choices: Iterable[Choice]) -> Iterator[Choice]:
        """The choices whose networks are within the bounds.

        Raises:
            KatibFlowError: ``PATIENCE`` consecutive choices exceeded the bounds.
        """
        failed = 0
        for choice in choices:
            failed = 0 if self.hold(choice) else failed + 1
            if not failed:
                yield choice
            elif failed == PATIENCE:
                raise self._too_tight(failed)

    def first(self, choices: Iterable[Choice], count: int) -> list[Choice]:
        """The first ``count`` choices with different networks within the bounds, or fewer if there are no more.

        Raises:
            KatibFlowError: all choices exceeded the bounds.
        """
        networks: dict[str, Choice] = {}
        tried = 0
        for choice in itertools.islice(choices, PATIENCE):
            tried += 1
            if self.hold(choice):
                networks.setdefault(self.network(choice)[0], choice)
            if len(networks) == count:
                break
        if not networks:
            raise self._too_tight(tried)
        return list(networks.values())

    def _too_tight(self, tried: int) -> KatibFlowError:
        bounds = {"max_parameters": self.parameters, "max_flops": self.flops}
        limits = " and ".join(f"{name}: {most}" for name, most in bounds.items() if most is not None)
        return KatibFlowError(
            f"algorithm.settings: {limits}: no network within these bounds among {counted(tried, 'choice')}"
        )
