"""A network as a single graph: cells unrolled, vertices and edges in topological order.

The key of an edge is its path through the cells (``n1/e01``), which is also the name of its weights by default.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from katib_flow.errors import SpecError
from katib_flow.models.layers import Delay, Layer, Mixed, Shape, ShapeError, Zero, flow, total
from katib_flow.models.merges import merge_of, merges
from katib_flow.models.operations import layers_of
from katib_flow.wording import counted, did_you_mean

if TYPE_CHECKING:
    from katib_flow.models.topology import Edge, Graph

MAX_EDGES = 4000
_TOKENS = "{tokens: N}, because a recurrent cell reads a sequence of tokens"
MAX_DEPTH = 16


@dataclass(frozen=True)
class FlatEdge:
    """One operation.

    Attributes:
        key: path of the edge through its cells.
        weights: name of its weights; its key, unless edges share weights.
        layers: the layers of its operation; empty for the identity.
        dead: whether it outputs zeros whatever its input.
    """

    key: str
    src: str
    dst: str
    op: str
    params: Mapping[str, Any]
    weights: str
    layers: tuple[Layer, ...]
    dead: bool = False

    @property
    def delayed(self) -> bool:
        """Whether it carries the value of its source at the previous token."""
        return any(isinstance(layer, Delay) for layer in self.layers)

    @property
    def zero(self) -> bool:
        """Whether its operation outputs zeros."""
        return any(isinstance(layer, Zero) for layer in self.layers)


@dataclass(frozen=True)
class Counts:
    """Size and cost of a network: trained numbers, and multiply-accumulates for one image or token."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Flat:
    """A network without cells.

    Attributes:
        vertices: the merge function of each vertex, including the input; a vertex comes after those that it depends on
            at the same token.
        edges: in the order of their targets, and for each target in the order written, which is that of a
            concatenation.
    """

    input: str
    output: str
    vertices: Mapping[str, str]
    edges: tuple[FlatEdge, ...]

    @cached_property
    def incoming(self) -> Mapping[str, tuple[FlatEdge, ...]]:
        """The edges into each vertex, dead ones included."""
        by_vertex: dict[str, list[FlatEdge]] = {vertex: [] for vertex in self.vertices}
        for edge in self.edges:
            by_vertex[edge.dst].append(edge)
        return {vertex: tuple(edges) for vertex, edges in by_vertex.items()}

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[FlatEdge, ...]]:
        """The edges from each vertex, without dead ones."""
        by_vertex: dict[str, list[FlatEdge]] = {vertex: [] for vertex in self.vertices}
        for edge in self.edges:
            if not edge.dead:
                by_vertex[edge.src].append(edge)
        return {vertex: tuple(edges) for vertex, edges in by_vertex.items()}

    @cached_property
    def live(self) -> "Flat":
        """The network without edges that carry zeros and parts that do not lie between input and output.

        Zeros that are not summed but, for instance, concatenated add channels: such an edge stays, and is ``dead``.
        """
        carrying = [(edge.src, edge.dst) for edge in self.edges if not edge.zero]
        reached = spread({self.input}, carrying)
        needed = spread({self.output}, [(dst, src) for src, dst in reversed(carrying) if src in reached])
        kept = reached & needed
        edges: list[FlatEdge] = []
        for edge in self.edges:
            if edge.dst in kept and edge.src in reached and not edge.zero:
                edges.append(edge)
            elif edge.dst in kept and self.vertices[edge.dst] not in ("add", "wsum"):
                edges.append(replace(edge, dead=True))
        ends = {self.input, self.output}
        vertices = {vertex: merge for vertex, merge in self.vertices.items() if vertex in kept | ends}
        return Flat(self.input, self.output, vertices, tuple(edges))

    def shapes(self, shape: Shape) -> dict[str, Shape]:
        """The shape of every vertex, for the shape of the input.

        Raises:
            SpecError: an operation does not accept the shape of its input, or shapes that meet at a vertex disagree.
        """
        if shape not in self._shapes:
            self._shapes[shape] = self._computed_shapes(shape)
        return self._shapes[shape]

    @cached_property
    def _shapes(self) -> dict[Shape, dict[str, Shape]]:
        return {}

    def _computed_shapes(self, shape: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {self.input: shape}
        for vertex, merge in self.vertices.items():
            if vertex == self.input:
                continue
            arriving = [_arriving(edge, shapes) for edge in self.incoming[vertex]]
            try:
                shapes[vertex] = arriving[0] if len(arriving) == 1 else merge_of(merge).shape(arriving)
            except ShapeError as error:
                raise SpecError(f"vertex {vertex}", f"{merge} of {len(arriving)}", f"{error}") from error
        for edge in self.edges:
            if edge.delayed:
                _through(edge, shapes[edge.src])
        return shapes

    def counts(self, shape: Shape) -> Counts:
        """Parameters and multiply-accumulates of ``live``, for the shape of the input; shared weights count once."""
        shapes, live = self.shapes(shape), self.live
        parameters: dict[str, int] = {}
        macs = 0
        for edge in live.edges:
            if edge.dead:
                continue
            parameters[edge.weights], cost = total(edge.layers, shapes[edge.src])
            macs += cost
        gates = sum(
            len(edges)
            for vertex, edges in live.incoming.items()
            if merge_of(live.vertices[vertex]).weighted and len(edges) > 1
        )
        return Counts(sum(parameters.values()) + gates, macs)

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """For each group of architecture weights of a supernet, the names of the operations to choose from."""
        return {layer.group: layer.names for edge in self.edges for layer in _mixed(edge.layers)}

    def check(self, shape: Shape, out: Shape) -> None:
        """Check that shapes agree, that every vertex is connected, and that the output has the shape ``out``.

        Raises:
            SpecError: one of these is not so.
        """
        for vertex, edges in self.incoming.items():
            if not edges and vertex != self.input:
                raise SpecError(f"vertex {vertex}", "no edge that leads to it", "at least one edge")
        for vertex, edges in self.outgoing.items():
            if not edges and vertex == self.input:
                raise SpecError(f"vertex {vertex}", "an input that no edge reads", "at least one edge from it")
        if len(shape) > 1 and (delay := next((edge for edge in self.edges if edge.delayed), None)):
            raise SpecError(f"edge {delay.key}", f"{delay.op} in a network for images", f"input: {_TOKENS}")
        output = self.shapes(shape)[self.output]
        if output != out:
            raise SpecError(
                f"vertex {self.output}", f"an output of shape {output}", f"shape {out}, one logit per class"
            )


def spread(start: Iterable[str], pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Everything that can be reached from ``start`` along some pairs; one pass is enough if these are in order."""
    reached, before = set(start), 0
    while len(reached) > before:
        before = len(reached)
        for src, dst in pairs:
            if src in reached:
                reached.add(dst)
    return reached


def _mixed(layers: Sequence[Layer]) -> Iterator[Mixed]:
    """The mixed layers of a sequence, including those within their choices."""
    for layer in layers:
        if isinstance(layer, Mixed):
            yield layer
            for path in layer.paths:
                yield from _mixed(path)


def _arriving(edge: FlatEdge, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of an edge's output; that of a delay is known before the shape of its source."""
    delay = next((layer for layer in edge.layers if isinstance(layer, Delay)), None)
    return (delay.features,) if delay else _through(edge, shapes[edge.src])


def _through(edge: FlatEdge, shape: Shape) -> Shape:
    try:
        return _after(edge.layers, shape)
    except ShapeError as error:
        raise SpecError(f"edge {edge.key}", f"{edge.op} after vertex {edge.src}", str(error)) from error


@lru_cache(maxsize=4096)
def _after(layers: tuple[Layer, ...], shape: Shape) -> Shape:
    return flow(layers, shape)[-1]


def flatten(graphs: Mapping[str, "Graph"], root: str) -> Flat:
    """Unroll the cells of the root graph.

    Raises:
        SpecError: a name is unknown, graphs contain each other, edges form a cycle, or there are more than
            ``MAX_EDGES`` edges.
    """
    if root not in graphs:
        raise SpecError("root", root, f"a graph: {', '.join(graphs)}{did_you_mean(root, graphs)}")
    if len(graphs[root].inputs) != 1:
        raise SpecError(f"graphs.{root}.inputs", list(graphs[root].inputs), "one input: the image, or the token")
    (source,) = graphs[root].inputs
    unrolled = _Unrolled(graphs)
    unrolled.vertices[source] = "add"
    output = unrolled.insert(root, {source: source}, "", {}, ())
    return _ordered(source, output, unrolled.vertices, unrolled.edges)


class _Unrolled:
    """The vertices and edges gathered while cells are unrolled."""

    def __init__(self, graphs: Mapping[str, "Graph"]) -> None:
        self.graphs = graphs
        self.vertices: dict[str, str] = {}
        self.edges: list[FlatEdge] = []

    def insert(
        self, name: str, inputs: Mapping[str, str], path: str, given: Mapping[str, Any], within: tuple[str, ...]
    ) -> str:
        """Insert a graph, unrolled, and return the name of its output vertex.

        Args:
            inputs: the vertex for each of its inputs.
            path: prefix of the names of its vertices and edges.
            given: the values of its ``$name`` parameters.
            within: the graphs that contain it, outermost first.
        """
        graph = self.graphs[name]
        if name in within or len(within) > MAX_DEPTH:
            raise SpecError(
                f"graphs.{name}", " in ".join([name, *reversed(within)]), "graphs that do not contain themselves"
            )
        names = dict(inputs)
        for vertex, merge in graph.vertices.items():
            if vertex in graph.inputs:
                raise SpecError(f"graphs.{name}.vertices.{vertex}", vertex, "a name that no input has")
            merges.get(merge, f"graphs.{name}.vertices.{vertex}")
            names[vertex] = path + vertex
            self.vertices[path + vertex] = merge
        if graph.output not in graph.vertices:
            need = f"a vertex: {', '.join(graph.vertices)}{did_you_mean(graph.output, graph.vertices)}"
            raise SpecError(f"graphs.{name}.output", graph.output, need)
        for edge in _edges(name, graph):
            self._edge(name, edge, names, path, given, (*within, name))
        return names[graph.output]

    def _edge(
        self,
        graph: str,
        edge: "Edge",
        names: Mapping[str, str],
        path: str,
        given: Mapping[str, Any],
        within: tuple[str, ...],
    ) -> None:
        where = f"graphs.{graph}.edges.{edge.id}"
        for end, vertex in [*(("src", vertex) for vertex in edge.src), ("dst", edge.dst)]:
            if vertex not in names:
                need = f"a vertex: {', '.join(names)}{did_you_mean(vertex, names)}"
                raise SpecError(f"{where}.{end}", vertex, need)
        if edge.dst in self.graphs[graph].inputs:
            raise SpecError(f"{where}.dst", edge.dst, "a vertex that is not an input")
        if len(self.edges) >= MAX_EDGES:
            raise SpecError(where, f"more than {MAX_EDGES:,} edges, with cells unrolled", "a smaller network")
        params, key = _given(edge.params, given, where), path + edge.id
        sources, target = [names[vertex] for vertex in edge.src], names[edge.dst]
        if edge.op.startswith("@"):
            self._cell(edge, where, sources, target, key, params, within)
            return
        if len(sources) != 1:
            raise SpecError(f"{where}.src", list(edge.src), f"one vertex, because {edge.op} has one input")
        layers = layers_of(edge.op, params, where)
        if any(isinstance(layer, Delay) for mixed in _mixed(layers) for path in mixed.paths for layer in path):
            raise SpecError(f"{where}.op", "delay among operations to choose from", "a delay on an edge of its own")
        weights = key if edge.weights is None else edge.weights
        self.edges.append(FlatEdge(key, sources[0], target, edge.op, params, weights, layers))

    def _cell(
        self,
        edge: "Edge",
        where: str,
        sources: Sequence[str],
        target: str,
        key: str,
        params: Mapping[str, Any],
        within: tuple[str, ...],
    ) -> None:
        inner = self.graphs.get(edge.op[1:])
        if inner is None:
            known = [f"@{name}" for name in self.graphs]
            raise SpecError(f"{where}.op", edge.op, f"a graph: {', '.join(known)}{did_you_mean(edge.op, known)}")
        if len(sources) != len(inner.inputs):
            need = f"{counted(len(inner.inputs), 'vertex', 'vertices')}, one per input of {edge.op}"
            raise SpecError(f"{where}.src", list(edge.src), need)
        inputs = dict(zip(inner.inputs, sources, strict=True))
        output = self.insert(edge.op[1:], inputs, f"{key}/", params, within)
        self.edges.append(FlatEdge(f"{key}/=", output, target, "identity", {}, f"{key}/=", ()))


def _edges(name: str, graph: "Graph") -> Iterator["Edge"]:
    """The edges of a graph, and those that join its loose ends to the output."""
    from katib_flow.models.topology import Edge

    seen: set[str] = set()
    for edge in graph.edges:
        if edge.id in seen:
            raise SpecError(f"graphs.{name}.edges.{edge.id}", edge.id, "an id that no other edge of the graph has")
        seen.add(edge.id)
        yield edge
    if graph.loose:
        read = {vertex for edge in graph.edges for vertex in edge.src}
        loose = [vertex for vertex in graph.loose if vertex not in read]
        yield from (Edge(id=f"{vertex}=", src=(vertex,), dst=graph.output, op="identity") for vertex in loose)


def _given(params: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parameters with ``$name`` replaced by the value that the edge of the cell gives for it."""
    filled: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in given:
                listed = f": {', '.join(given)}" if given else " (it is given no parameters)"
                raise SpecError(f"{where}.params.{name}", value, f"a parameter that the cell is given{listed}")
            value = given[value[1:]]
        filled[name] = value
    return filled


def _ordered(source: str, output: str, vertices: Mapping[str, str], edges: Sequence[FlatEdge]) -> Flat:
    """The network in topological order, apart from the edges with a delay.

    Raises:
        SpecError: edges without a delay form a cycle.
    """
    waiting = dict.fromkeys(vertices, 0)
    leaving: dict[str, list[str]] = {vertex: [] for vertex in vertices}
    immediate = [edge for edge in edges if not edge.delayed]
    for edge in immediate:
        waiting[edge.dst] += 1
        leaving[edge.src].append(edge.dst)
    ready = [vertex for vertex, count in waiting.items() if not count]
    order: list[str] = []
    for vertex in ready:
        order.append(vertex)
        for target in leaving[vertex]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(order) < len(vertices):
        stuck = {vertex for vertex in vertices if waiting[vertex]}
        while ends := stuck - {edge.src for edge in immediate if edge.src in stuck and edge.dst in stuck}:
            stuck -= ends  # vertices that only depend on a cycle
        cycle = ", ".join(edge.key for edge in immediate if edge.src in stuck and edge.dst in stuck)
        raise SpecError("edges", f"a cycle through {cycle}", "edges that form no cycle, except through a delay")
    position_of = {vertex: position for position, vertex in enumerate(order)}
    return Flat(
        source,
        output,
        {vertex: vertices[vertex] for vertex in order},
        tuple(sorted(edges, key=lambda edge: position_of[edge.dst])),
    )
