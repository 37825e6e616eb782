"""What one choice of every group of a supernet makes of it: a network, which has a hash and a size."""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.models.choices import slots_by_node
from katib_flow.models.layers import Conv, Linear, Mixed
from katib_flow.models.topology import Topology

Choice = Mapping[str, int]
"""The position of the choice of each group, by its name."""

LEAST = 1e-300  # of a weight whose logarithm is taken
PATIENCE = 10_000  # choices looked at for one that is within the bounds, or another network than those before


def chosen(supernet: Topology, choice: Choice) -> Topology:
    """The network of a choice: every edge with its one operation, and without the edges that are out."""
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
    """By group, biases by which a controller draws operations with trained weights at least in ``share`` of all draws.

    Its logits are ``squash * tanh(bias / 5)``, which bounds the lean. A draw is even where all choices have weights,
    none has, or those that have come up as often anyway, and of whether an edge is there.
    """
    groups: dict[str, list[float]] = {group: [] for group in supernet.flat.groups}
    for layer in (layer for edge in supernet.flat.edges for layer in edge.layers if isinstance(layer, Mixed)):
        trained = [any(isinstance(part, Conv | Linear) for part in path) for path in layer.paths]
        count, others = sum(trained), len(trained) - sum(trained)
        odds = share / (1 - share) * others / count if count and "out" not in layer.names else 1.0
        more = 5 * math.atanh(min(0.99, math.log(max(odds, 1.0)) / 2 / squash)) if others else 0.0
        groups[layer.group] = [more if each else -more for each in trained]
    return list(groups.values())


def ranked(supernet: Topology, shares: Mapping[str, Sequence[float]], inputs: int) -> Iterator[Choice]:
    """The choices that a search may come to: that of section 2.4, then those with other operations, by the product of
    the weights.

    A node keeps the edges whose heaviest operation, "none" left aside, weighs most; where an edge cannot be "none", it
    stays.

    Args:
        shares: by slot, the weight of each choice.
        inputs: how many edges a node keeps.
    """
    gone: dict[str, int] = {}
    kept: dict[str, list[int]] = {}
    for slots in slots_by_node(supernet):
        names = {slot: supernet.flat.groups[slot] for slot in slots}
        some = {slot: [place for place, name in enumerate(names[slot]) if name != "none"] or [0] for slot in slots}
        best = {slot: sorted(some[slot], key=lambda place, of=shares[slot]: -of[place]) for slot in slots}
        for rank, slot in enumerate(sorted(slots, key=lambda slot: -shares[slot][best[slot][0]])):
            if rank >= inputs and "none" in names[slot]:
                gone[slot] = names[slot].index("none")
            else:
                kept[slot] = best[slot]
    logs = [[math.log(max(shares[slot][place], LEAST)) for place in kept[slot]] for slot in kept]
    for places in heaviest(logs):
        yield gone | {slot: kept[slot][place] for slot, place in zip(kept, places, strict=True)}


def likeliest(log_chances: Mapping[str, Sequence[float]]) -> Iterator[Choice]:
    """All choices, the likeliest first, where groups are drawn independently; of equals, the first position first.

    Args:
        log_chances: by group, the logarithm of the chance of each choice.
    """
    orders = {
        slot: sorted(range(len(logs)), key=lambda place, of=logs: -of[place]) for slot, logs in log_chances.items()
    }
    falling = [[log_chances[slot][place] for place in order] for slot, order in orders.items()]
    for ranks in heaviest(falling):
        yield {slot: order[rank] for (slot, order), rank in zip(orders.items(), ranks, strict=True)}


def heaviest(weights: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """One place of every list, the largest sum first.

    Args:
        weights: lists that fall.
    """
    first: tuple[int, ...] = (0,) * len(weights)
    heap: list[tuple[float, tuple[int, ...]]] = [(-sum(each[0] for each in weights), first)]
    seen: set[tuple[int, ...]] = {first}
    while heap:
        minus, places = heapq.heappop(heap)
        yield places
        for at, place in enumerate(places):
            after = (*places[:at], place + 1, *places[at + 1 :])
            if place + 1 < len(weights[at]) and after not in seen:
                seen.add(after)
                heapq.heappush(heap, (minus + weights[at][place] - weights[at][place + 1], after))


class Bounds:
    """How large a network may be that a search comes to, and which choices are one network.

    Attributes:
        parameters, flops: the most that a network may have; None for any number.
    """

    def __init__(self, supernet: Topology, parameters: int | None = None, flops: int | None = None) -> None:
        self.supernet, self.parameters, self.flops = supernet, parameters, flops
        self._networks: dict[tuple[tuple[str, int], ...], tuple[str, int, int]] = {}

    def network(self, choice: Choice) -> tuple[str, int, int]:
        """The hash of a choice's network, its number of parameters, and its floating-point operations for an image."""
        key = tuple(choice.items())
        if key not in self._networks:
            network = chosen(self.supernet, choice)
            self._networks[key] = network.hash, network.parameters, network.flops
        return self._networks[key]

    def hold(self, choice: Choice) -> bool:
        """Whether a choice's network is small enough."""
        if self.parameters is None and self.flops is None:
            return True
        _, parameters, flops = self.network(choice)
        return (self.parameters is None or parameters <= self.parameters) and (
            self.flops is None or flops <= self.flops
        )

    def within(self, choices: Iterable[Choice]) -> Iterator[Choice]:
        """The choices of networks that are small enough.

        Raises:
            KatibFlowError: of ``PATIENCE`` choices in a row none was.
        """
        failed = 0
        for choice in choices:
            failed = 0 if self.hold(choice) else failed + 1
            if not failed:
                yield choice
            elif failed == PATIENCE:
                raise self._too_tight(failed)

    def first(self, choices: Iterable[Choice], count: int) -> list[Choice]:
        """The first choices of different networks that are small enough, fewer where there are no more.

        Raises:
            KatibFlowError: there are none.
        """
        found: dict[str, Choice] = {}
        tried = 0
        for choice in itertools.islice(choices, PATIENCE):
            tried += 1
            if self.hold(choice):
                found.setdefault(self.network(choice)[0], choice)
            if len(found) == count:
                break
        if not found:
            raise self._too_tight(tried)
        return list(found.values())

    def _too_tight(self, tried: int) -> KatibFlowError:
        bounds = {"max_parameters": self.parameters, "max_flops": self.flops}
        said = " and ".join(f"{name}: {most}" for name, most in bounds.items() if most is not None)
        return KatibFlowError(f"algorithm.settings: {said}: none of {tried} networks was as small as that")
