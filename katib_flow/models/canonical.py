"""A hash of a network that does not depend on names, on the order of its edges, or on how its sums are nested.

It takes two steps. ``values`` lists the values that a network computes, each once: sums are multisets of terms, so
``a + (b + c)`` is ``a + b + c``; equal operations without parameters that read the same value are one value; each
trained operation is a value of its own, because it has weights of its own. Hence a network that uses one convolution
twice differs from one that has two convolutions. ``digest`` then finds a canonical order of the values: it refines
colours by those of the neighbours on both sides; while several values share a colour, it tries giving each of them a
colour of its own, and keeps the least result.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from katib_flow.models.layers import Layer, Module, Shape, flow, total
from katib_flow.models.merges import merge_of

if TYPE_CHECKING:
    from katib_flow.models.flat import Flat, FlatEdge

Colours = list[int]


@dataclass(frozen=True)
class Value:
    """A value that a network computes.

    Attributes:
        label: the operation with its parameters, or the merge function.
        reads: the numbers of the values that it is computed from; sorted if their order does not matter.
        weights: the name of its weights, or "".
    """

    label: str
    reads: tuple[int, ...]
    ordered: bool = True
    weights: str = ""


@dataclass
class _Values:
    """The values of a network, each listed once."""

    values: list[Value] = field(default_factory=list[Value])
    known: dict[Value, int] = field(default_factory=dict[Value, int])

    def number(self, value: Value) -> int:
        if value not in self.known:
            self.known[value] = len(self.values)
            self.values.append(value)
        return self.known[value]

    def sum(self, terms: Sequence[int]) -> int:
        """The number of a sum; sums among its terms are replaced by their own terms."""
        inner: list[int] = []
        for term in terms:
            value = self.values[term]
            inner += value.reads if value.label == "add" else (term,)
        return inner[0] if len(inner) == 1 else self.number(Value("add", tuple(sorted(inner)), ordered=False))


def values(network: "Flat", shapes: Mapping[str, Shape]) -> tuple[list[Value], int | None]:
    """The values that a network computes, and the number of its output, or None if the output is always zero."""
    listed, live = _Values(), network.live
    at: dict[str, int] = {live.input: listed.number(Value("input", ()))}
    states = {edge.key: listed.number(Value(f"state {edge.key}", ())) for edge in live.edges if edge.delayed}
    for vertex, merge in live.vertices.items():
        if vertex == live.input or not live.incoming[vertex]:
            continue
        terms = [
            states[edge.key] if edge.delayed else _applied(listed, edge, at, shapes) for edge in live.incoming[vertex]
        ]
        function = merge_of(merge)
        if merge == "add" or len(terms) == 1:
            at[vertex] = listed.sum(terms)
        else:
            weights = vertex if function.weighted else ""
            reads = tuple(terms if function.ordered else sorted(terms))
            at[vertex] = listed.number(Value(merge, reads, function.ordered, weights))
    for edge in live.edges:
        if edge.delayed:  # its source has been numbered by now
            listed.values[states[edge.key]] = Value(label(edge), (at[edge.src],))
    output = at.get(live.output)
    if states and output is not None:  # in a recurrent network, other values may read the output
        output = listed.number(Value("output", (output,)))
    return listed.values, output


def _applied(listed: _Values, edge: "FlatEdge", at: Mapping[str, int], shapes: Mapping[str, Shape]) -> int:
    if edge.dead:
        return listed.number(Value(f"zeros of {flow(edge.layers, shapes[edge.src])[-1]}", ()))
    source = at[edge.src]
    if not edge.layers:
        return source
    return listed.number(Value(label(edge), (source,), weights=edge.weights if trained(edge.layers) else ""))


def label(edge: "FlatEdge") -> str:
    """The layers of an operation as text; its name and parameters if it holds a module of the user's."""
    if any(isinstance(layer, Module) for layer in edge.layers):
        return f"{edge.op}{sorted(edge.params.items())}"
    return _written(edge.layers)


@lru_cache(maxsize=4096)
def _written(layers: tuple[Layer, ...]) -> str:
    return "|".join(map(repr, layers))


@lru_cache(maxsize=4096)
def trained(layers: tuple[Layer, ...]) -> bool:
    """Whether an operation has trained parameters, for an input of 64 channels; True if it takes no such input."""
    for shape in ((64, 64, 64), (64,)):
        try:
            return total(layers, shape)[0] > 0
        except ValueError:
            continue
    return True


def digest(network: "Flat", shapes: Mapping[str, Shape], ends: Any) -> str:
    """Hash the canonical form of a network, as 32 hex digits.

    Args:
        shapes: the shape of each vertex.
        ends: the shapes of input and output, as plain data.
    """
    listed, output = values(network, shapes)
    form = [] if output is None else _Graph(_reachable(listed, output)).least()
    text = json.dumps(["topology/1", ends, form], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _reachable(listed: Sequence[Value], output: int) -> list[Value]:
    """The values that the output depends on, renumbered in order."""
    needed, waiting = {output}, [output]
    while waiting:
        fresh = set(listed[waiting.pop()].reads) - needed
        needed |= fresh
        waiting += fresh
    position_of = {number: position for position, number in enumerate(sorted(needed))}
    return [
        Value(value.label, tuple(position_of[read] for read in value.reads), value.ordered, value.weights)
        for number, value in enumerate(listed)
        if number in needed
    ]


class _Graph:
    """Values to bring into the canonical order."""

    def __init__(self, listed: Sequence[Value]) -> None:
        self.values = listed
        names = [value.weights for value in listed if value.weights]
        shared = sorted({name for name in names if names.count(name) > 1})
        self.shared = [shared.index(value.weights) if value.weights in shared else -1 for value in listed]
        self.users: list[list[tuple[int, int]]] = [[] for _ in listed]
        for number, value in enumerate(listed):
            for position, read in enumerate(value.reads):
                self.users[read].append((position if value.ordered else -1, number))

    def least(self) -> list[Any]:
        """The least form over all orders that agree with the colours."""
        labels = sorted({value.label for value in self.values})
        return self._least(self._refined([labels.index(value.label) for value in self.values]))

    def _least(self, colours: Colours) -> list[Any]:
        alike = self._first_alike(colours)
        if not alike:
            return self._form(colours)
        # Two values whose first completions look the same are images of each other: one of them is enough.
        distinct: dict[str, Colours] = {}
        for number in alike:
            separated = self._separated(colours, number)
            distinct.setdefault(json.dumps(self._first(separated)), separated)
        return min((self._least(refined) for refined in distinct.values()), key=json.dumps)

    def _first(self, colours: Colours) -> list[Any]:
        while alike := self._first_alike(colours):
            colours = self._separated(colours, alike[0])
        return self._form(colours)

    def _first_alike(self, colours: Colours) -> list[int]:
        """The values of the first colour that several values share."""
        seen: dict[int, list[int]] = {}
        for number, colour in enumerate(colours):
            seen.setdefault(colour, []).append(number)
        return next((numbers for _, numbers in sorted(seen.items()) if len(numbers) > 1), [])

    def _separated(self, colours: Colours, number: int) -> Colours:
        """Refined colours after a value is given a colour of its own."""
        return self._refined([2 * colour + (at != number) for at, colour in enumerate(colours)])

    def _refined(self, colours: Colours) -> Colours:
        """Refine the colours by those of the neighbours until nothing changes."""
        count = len(set(colours))
        while True:
            keys = list(self._keys(colours))
            rank = {key: position for position, key in enumerate(sorted(set(keys)))}
            colours = [rank[key] for key in keys]
            if len(rank) == count:
                return colours
            count = len(rank)

    def _keys(self, colours: Colours) -> Iterator[tuple[Any, ...]]:
        sharing: dict[int, list[int]] = {}
        for number, weights in enumerate(self.shared):
            if weights >= 0:
                sharing.setdefault(weights, []).append(colours[number])
        together = {weights: sorted(members) for weights, members in sharing.items()}
        for number, value in enumerate(self.values):
            reads = [colours[read] for read in value.reads]
            users = sorted((position, colours[user]) for position, user in self.users[number])
            shared = together.get(self.shared[number], [])
            yield (colours[number], tuple(reads if value.ordered else sorted(reads)), tuple(users), tuple(shared))

    def _form(self, colours: Colours) -> list[Any]:
        """The network as plain data, in the order of its colours, which are all different."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        position_of = {number: position for position, number in enumerate(order)}
        weights: dict[int, int] = {}
        form: list[Any] = []
        for number in order:
            value, shared = self.values[number], self.shared[number]
            reads = [position_of[read] for read in value.reads]
            mark = -1 if shared < 0 else weights.setdefault(shared, len(weights))
            form.append([value.label, reads if value.ordered else sorted(reads), mark])
        return form
