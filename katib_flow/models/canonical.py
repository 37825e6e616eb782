"""A digest of a network that is equal for networks that are one: whatever names, order of edges or detours they have.

Two steps. ``values`` writes a network as the values it computes, each made once: sums are multisets of terms, so
``a + (b + c)`` is ``a + b + c``; operations without parameters that read one value are one value; a trained operation
is a value of its own, because its weights are. So a network that uses one convolution twice and one that has two are
told apart. ``digest`` then finds a canonical order of the values: colours refined from their neighbours on both sides
and, where that leaves several alike, the least of what comes of telling each of them apart.
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
    """Something a network computes.

    Attributes:
        label: operation with its parameters, or merge function.
        reads: numbers of the values it is made of; sorted where their order does not matter.
        weights: name of its weights, "" where it has none.
    """

    label: str
    reads: tuple[int, ...]
    ordered: bool = True
    weights: str = ""


@dataclass
class _Values:
    """The values of a network, each once."""

    values: list[Value] = field(default_factory=list[Value])
    known: dict[Value, int] = field(default_factory=dict[Value, int])

    def number(self, value: Value) -> int:
        if value not in self.known:
            self.known[value] = len(self.values)
            self.values.append(value)
        return self.known[value]

    def sum(self, terms: Sequence[int]) -> int:
        """A sum; sums in it are taken apart."""
        inner: list[int] = []
        for term in terms:
            value = self.values[term]
            inner += value.reads if value.label == "add" else (term,)
        return inner[0] if len(inner) == 1 else self.number(Value("add", tuple(sorted(inner)), ordered=False))


def values(network: "Flat", shapes: Mapping[str, Shape]) -> tuple[list[Value], int | None]:
    """The values that a network computes, and the number of its output; None where that is nothing but zeros."""
    made, live = _Values(), network.live
    at: dict[str, int] = {live.input: made.number(Value("input", ()))}
    states = {edge.key: made.number(Value(f"state {edge.key}", ())) for edge in live.edges if edge.delayed}
    for vertex, merge in live.vertices.items():
        if vertex == live.input or not live.incoming[vertex]:
            continue
        terms = [
            states[edge.key] if edge.delayed else _applied(made, edge, at, shapes) for edge in live.incoming[vertex]
        ]
        found = merge_of(merge)
        if merge == "add" or len(terms) == 1:
            at[vertex] = made.sum(terms)
        else:
            weights = vertex if found.weighted else ""
            reads = tuple(terms if found.ordered else sorted(terms))
            at[vertex] = made.number(Value(merge, reads, found.ordered, weights))
    for edge in live.edges:
        if edge.delayed:  # now it is known what it is made of
            made.values[states[edge.key]] = Value(label(edge), (at[edge.src],))
    output = at.get(live.output)
    if states and output is not None:  # what others read may be the output, too, where values go round
        output = made.number(Value("output", (output,)))
    return made.values, output


def _applied(made: _Values, edge: "FlatEdge", at: Mapping[str, int], shapes: Mapping[str, Shape]) -> int:
    if edge.dead:
        return made.number(Value(f"zeros of {flow(edge.layers, shapes[edge.src])[-1]}", ()))
    source = at[edge.src]
    if not edge.layers:
        return source
    return made.number(Value(label(edge), (source,), weights=edge.weights if trained(edge.layers) else ""))


def label(edge: "FlatEdge") -> str:
    """What an operation does, as text; one with a module of the user's goes by its name and parameters."""
    if any(isinstance(layer, Module) for layer in edge.layers):
        return f"{edge.op}{sorted(edge.params.items())}"
    return _written(edge.layers)


@lru_cache(maxsize=4096)
def _written(layers: tuple[Layer, ...]) -> str:
    return "|".join(map(repr, layers))


@lru_cache(maxsize=4096)
def trained(layers: tuple[Layer, ...]) -> bool:
    """Whether an operation has parameters, as a map of many channels would show."""
    for shape in ((64, 64, 64), (64,)):
        try:
            return total(layers, shape)[0] > 0
        except ValueError:
            continue
    return True


def digest(network: "Flat", shapes: Mapping[str, Shape], ends: Any) -> str:
    """32 hex digits of the canonical form.

    Args:
        shapes: of its vertices.
        ends: shapes of input and output, plain data.
    """
    made, output = values(network, shapes)
    form = [] if output is None else _Graph(_reachable(made, output)).least()
    text = json.dumps(["topology/1", ends, form], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _reachable(made: Sequence[Value], output: int) -> list[Value]:
    """The values that the output is made of, renumbered in their order."""
    needed, waiting = {output}, [output]
    while waiting:
        fresh = set(made[waiting.pop()].reads) - needed
        needed |= fresh
        waiting += fresh
    place = {number: position for position, number in enumerate(sorted(needed))}
    return [
        Value(value.label, tuple(place[each] for each in value.reads), value.ordered, value.weights)
        for number, value in enumerate(made)
        if number in needed
    ]


class _Graph:
    """Values, to be put into the canonical order."""

    def __init__(self, made: Sequence[Value]) -> None:
        self.values = made
        names = [value.weights for value in made if value.weights]
        shared = sorted({name for name in names if names.count(name) > 1})
        self.shared = [shared.index(value.weights) if value.weights in shared else -1 for value in made]
        self.users: list[list[tuple[int, int]]] = [[] for _ in made]
        for number, value in enumerate(made):
            for position, read in enumerate(value.reads):
                self.users[read].append((position if value.ordered else -1, number))

    def least(self) -> list[Any]:
        """The least of the forms that the orders compatible with the colours give."""
        labels = sorted({value.label for value in self.values})
        return self._least(self._refined([labels.index(value.label) for value in self.values]))

    def _least(self, colours: Colours) -> list[Any]:
        alike = self._first_alike(colours)
        if not alike:
            return self._form(colours)
        # Two choices whose first completions look the same are images of each other: one of them is enough.
        distinct: dict[str, Colours] = {}
        for number in alike:
            told_apart = self._told_apart(colours, number)
            distinct.setdefault(json.dumps(self._first(told_apart)), told_apart)
        return min((self._least(each) for each in distinct.values()), key=json.dumps)

    def _first(self, colours: Colours) -> list[Any]:
        while alike := self._first_alike(colours):
            colours = self._told_apart(colours, alike[0])
        return self._form(colours)

    def _first_alike(self, colours: Colours) -> list[int]:
        """The values of the first colour that several have."""
        seen: dict[int, list[int]] = {}
        for number, colour in enumerate(colours):
            seen.setdefault(colour, []).append(number)
        return next((numbers for _, numbers in sorted(seen.items()) if len(numbers) > 1), [])

    def _told_apart(self, colours: Colours, number: int) -> Colours:
        return self._refined([2 * colour + (at != number) for at, colour in enumerate(colours)])

    def _refined(self, colours: Colours) -> Colours:
        """Colours made finer by those of the neighbours, until nothing changes."""
        count = len(set(colours))
        while True:
            keys = list(self._keys(colours))
            rank = {key: place for place, key in enumerate(sorted(set(keys)))}
            colours = [rank[key] for key in keys]
            if len(rank) == count:
                return colours
            count = len(rank)

    def _keys(self, colours: Colours) -> Iterator[tuple[Any, ...]]:
        sharing: dict[int, list[int]] = {}
        for number, weights in enumerate(self.shared):
            if weights >= 0:
                sharing.setdefault(weights, []).append(colours[number])
        together = {weights: sorted(found) for weights, found in sharing.items()}
        for number, value in enumerate(self.values):
            reads = [colours[read] for read in value.reads]
            users = sorted((position, colours[user]) for position, user in self.users[number])
            shared = together.get(self.shared[number], [])
            yield (colours[number], tuple(reads if value.ordered else sorted(reads)), tuple(users), tuple(shared))

    def _form(self, colours: Colours) -> list[Any]:
        """The network written down in the order of its colours, which are all different."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        place = {number: position for position, number in enumerate(order)}
        weights: dict[int, int] = {}
        form: list[Any] = []
        for number in order:
            value, shared = self.values[number], self.shared[number]
            reads = [place[read] for read in value.reads]
            mark = -1 if shared < 0 else weights.setdefault(shared, len(weights))
            form.append([value.label, reads if value.ordered else sorted(reads), mark])
        return form
