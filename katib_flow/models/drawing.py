"""A topology as an SVG drawing, from the top down: the network, each cell once beside it, changes highlighted.

Operations are boxes, coloured by kind; operations that output zeros (``none``) are not drawn. A vertex has its name
beside it and shows how it merges several values; a vertex that only passes a value on is drawn as a line. A tall
drawing is folded into columns, and the ends of a line that is cut name its source and target. Tooltips give details;
the colours follow the reader's light or dark theme.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from katib_flow.models.layout import Layout, Line, Node, Point, layout
from katib_flow.models.topology import Edge, Graph, Topology

_KINDS = (
    ("cell", ("@",)),
    ("sep", ("sep", "dw", "dil", "mbconv")),
    ("conv", ("conv",)),
    ("pool", ("avg", "max", "reduce", "fit", "global-mean")),
    ("head", ("head", "dense", "flatten")),
    ("mixed", ("mixed", "optional")),
    ("none", ("none", "zeros")),
)
_GLYPHS = {"add": "+", "primary": "⊕", "concat": "‖", "pad-concat": "‖", "mul": "×", "mean": "μ", "wsum": "Σ"}
_IDENTITY = ("identity", "skip")
_NOTHING = ("none", "zeros")
_DELAY = "delay"
_CHARACTER, _PADDING, _HEIGHT = 6.7, 9.0, 22.0
_SMALL = 5.6  # width of a character of a vertex's name
_LONGEST_NAME = 14  # characters of a vertex's name
_RADIUS, _DOT = 9.0, 2.6
_ARROW = 5.0
_MARGIN, _TITLE = 18.0, 46.0
_MARKS = "amber: new since the parent, dashed: changed"

_STYLE = """
svg{font:11px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif;background:var(--paper)}
:root,svg{--paper:#fff;--ink:#1f2933;--soft:#7b8794;--line:#9aa5b1;--frame:#e4e7eb;--new:#d97706;
--conv:#dbeafe;--sep:#ede9fe;--pool:#dcfce7;--head:#fee2e2;--cell:#cffafe;--mixed:#fef3c7;--none:#f5f7fa;--other:#f0f4f8}
@media(prefers-color-scheme:dark){:root,svg{--paper:#15191e;--ink:#e4e7eb;--soft:#9aa5b1;--line:#616e7c;--frame:#323f4b;
--new:#fbbf24;--conv:#1e3a5f;--sep:#3b2f63;--pool:#1d4030;--head:#5b2626;--cell:#164e57;--mixed:#57431a;--none:#222a32;
--other:#29323c}}
text{fill:var(--ink)}.soft{fill:var(--soft)}.title{font-size:14px;font-weight:600}.name{font-weight:600}
.link{fill:none;stroke:var(--line);stroke-width:1.3}.arrow{fill:var(--line)}.small{font-size:9.5px}.frame{fill:none;stroke:var(--frame)}
.op{stroke:var(--line);stroke-width:.8}.vertex{fill:var(--paper);stroke:var(--line);stroke-width:1.2}
.new{stroke:var(--new);stroke-width:2.4}
.changed{stroke:var(--new);stroke-width:1.2;stroke-dasharray:4 2}.dot{fill:var(--line)}.mark{fill:var(--new)}
"""


@dataclass(frozen=True)
class _Panel:
    """One graph, laid out."""

    name: str
    graph: Graph
    places: Layout
    links: list[tuple[Node, Node]]

    @property
    def width(self) -> float:
        return max(self.places.width, 90.0)

    def source_of(self, link: int) -> str:
        """The vertex at which a link starts, directly or through an operation; the operation, if it is not drawn."""
        node = self.links[link][0]
        return self._named(node, self._edge(node).src[0]) if isinstance(node, tuple) else str(node)

    def target_of(self, link: int) -> str:
        """The vertex at which a link ends, directly or through an operation; the operation, if it is not drawn."""
        node = self.links[link][1]
        return self._named(node, self._edge(node).dst) if isinstance(node, tuple) else str(node)

    def _named(self, node: Node, vertex: str) -> str:
        return vertex if vertex in self.places.at else _label(self._edge(node))

    def _edge(self, node: Node) -> Edge:
        return next(edge for edge in self.graph.edges if ("op", edge.id) == node)


def svg(topology: Topology, parent: Topology | None = None) -> str:
    """Draw a network as SVG.

    Args:
        parent: the topology to compare with. Edges that are new since the parent get an amber frame, changed ones a
            dashed frame, and those that are gone are listed below the drawing.
    """
    panels = [_panel(name, topology) for name in _used(topology)]
    width = sum(panel.width + 2 * _MARGIN for panel in panels) + _MARGIN
    gone = _gone(topology, parent) if parent else []
    footer = 20.0 if gone else 0.0
    height = _top(parent) + max(panel.places.height for panel in panels) + 2 * _MARGIN + 16 + footer
    width = max(width, _CHARACTER * len(_subtitle(topology)) + 2 * _MARGIN)
    parts = [_heading(topology, parent)]
    x = _MARGIN
    for panel in panels:
        count = _uses(topology, panel.name)
        parts.append(_drawn(panel, topology, parent, x + _MARGIN / 2, count))
        x += panel.width + 2 * _MARGIN
    if gone:
        text = _cut(f"gone: {', '.join(gone)}", int(width / _CHARACTER) - 6)
        parts.append(f'<text class="mark" x="{_MARGIN}" y="{height - 10:.0f}">{escape(text)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>{escape(topology.name or "topology")}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>"
    )


def _top(parent: Topology | None) -> float:
    """The height at which the graphs begin, below the heading."""
    return _TITLE + (14.0 if parent else 0.0)


def _used(topology: Topology) -> list[str]:
    """The root graph, then the cells that it contains, then the cells within those."""
    order = [topology.root]
    for name in order:
        cells = (edge for edge in topology.graphs[name].edges if edge.op.startswith("@"))
        inner = (edge.op[1:] for edge in cells if not _gives_nothing(topology, edge))
        order += [cell for cell in dict.fromkeys(inner) if cell not in order]
    return order


def _uses(topology: Topology, name: str) -> int:
    return sum(edge.op == f"@{name}" for graph in topology.graphs.values() for edge in graph.edges)


def _panel(name: str, topology: Topology) -> _Panel:
    """Lay out a graph with vertices and operations as nodes; an identity is a plain line."""
    graph = topology.graphs[name]
    widths: dict[Node, float] = {vertex: _vertex_width(vertex) for vertex in graph.inputs}
    links: list[tuple[Node, Node]] = []
    joined = {f"{vertex}=": vertex for vertex in _loose(graph)}
    plain = [*graph.edges, *(Edge(id=key, src=(v,), dst=graph.output, op="identity") for key, v in joined.items())]
    plain = [edge for edge in plain if not _gives_nothing(topology, edge)]
    for vertex in _ordered(graph, plain):
        for edge in plain:
            if edge.dst == vertex:
                if edge.op in _IDENTITY and not edge.params:
                    links.append((edge.src[0], vertex))
                else:
                    box = ("op", edge.id)
                    widths[box] = _CHARACTER * len(_label(edge)) + 2 * _PADDING
                    links += [(src, box) for src in _drawn_from(edge)] + [(box, vertex)]
        widths[vertex] = _vertex_width(vertex)
    kept = {graph.output, *(vertex for edge in plain if edge.op == _DELAY for vertex in edge.src)}
    for vertex in graph.vertices:
        if vertex not in kept:
            _hand_on(vertex, widths, links)
    return _Panel(name, graph, layout(widths, links), links)


def _drawn_from(edge: Edge) -> tuple[str, ...]:
    """The vertices from which lines lead to an edge's operation; empty for a delay, whose label names its source."""
    return () if edge.op == _DELAY else edge.src


def _gives_nothing(topology: Topology, edge: Edge) -> bool:
    """Whether an edge outputs zeros: by its operation, or because nothing leads to the output of its graph."""
    if not edge.op.startswith("@"):
        return edge.op in _NOTHING
    graph = topology.graphs[edge.op[1:]]
    leading = (inner for inner in graph.edges if inner.dst == graph.output)
    return not _loose(graph) and all(_gives_nothing(topology, inner) for inner in leading)


def _hand_on(vertex: Node, widths: dict[Node, float], links: list[tuple[Node, Node]]) -> None:
    """Replace a vertex that has one link to it and one from it by a single link."""
    arriving, leaving = ([link for link in links if link[end] == vertex] for end in (1, 0))
    if len(arriving) == len(leaving) == 1:
        links[links.index(arriving[0])] = (arriving[0][0], leaving[0][1])
        links.remove(leaving[0])
        del widths[vertex]


def _vertex_width(name: str) -> float:
    """The width of a vertex with its name on the right and as much space on the left, so that lines meet its centre."""
    return 2 * (_RADIUS + 3 + _SMALL * min(len(name), _LONGEST_NAME))


def _loose(graph: Graph) -> list[str]:
    read = {vertex for edge in graph.edges for vertex in edge.src}
    return [vertex for vertex in graph.loose if vertex not in read]


def _ordered(graph: Graph, edges: list[Edge]) -> Iterator[str]:
    """The vertices, each after those that it depends on."""
    done, waiting = set(graph.inputs), list(graph.vertices)
    while waiting:
        ready = [v for v in waiting if all(set(_drawn_from(edge)) <= done for edge in edges if edge.dst == v)]
        yield from ready
        done |= set(ready)
        waiting = [v for v in waiting if v not in done]


def _drawn(panel: _Panel, topology: Topology, parent: Topology | None, left: float, count: int) -> str:
    top = _top(parent)
    places = panel.places
    shift = left + (panel.width - places.width) / 2
    title = "network" if panel.name == topology.root else panel.name
    times = f" ×{count}" if count > 1 else ""
    parts = [
        f'<rect class="frame" x="{left - 8:.1f}" y="{top:.1f}" width="{panel.width + 16:.1f}" '
        f'height="{places.height + 30:.1f}" rx="6"/>',
        f'<text class="name" x="{left:.1f}" y="{top + 16:.1f}">{escape(title)}'
        f'<tspan class="soft">{times}</tspan></text>',
        f'<g transform="translate({shift:.1f},{top + 22:.1f})">',
    ]
    parts += [_line(line, panel) for line in places.lines] + [_stubs(panel)]
    merging = {name: merge for name, merge in panel.graph.vertices.items() if _arriving(panel, name) > 1}
    for vertex in (vertex for vertex in (*panel.graph.inputs, *panel.graph.vertices) if vertex in places.at):
        parts.append(_vertex(places.at[vertex], vertex, merging.get(vertex), inside=vertex in panel.graph.vertices))
    for edge in panel.graph.edges:
        if ("op", edge.id) in places.at:
            change = _change(parent, panel.name, edge) if parent else ""
            parts.append(_box(places.at["op", edge.id], edge, change))
    return "".join([*parts, "</g>"])


def _arriving(panel: _Panel, vertex: str) -> int:
    return sum(dst == vertex for _, dst in panel.links)


def _vertex(at: Point, name: str, merge: str | None, *, inside: bool) -> str:
    """A vertex with its name: a dot if one value arrives, or else a circle that shows how the values are merged."""
    radius = _DOT if merge is None and inside else _RADIUS
    label = (
        f'<text class="soft small" x="{at.x + radius + 3:.1f}" y="{at.y + 3.4:.1f}">'
        f"{escape(_cut(name, _LONGEST_NAME))}</text>"
    )
    circle = f'cx="{at.x:.1f}" cy="{at.y:.1f}" r="{radius}"'
    if merge is None and inside:
        return f'<g><title>{escape(name)}</title><circle class="dot" {circle}/>{label}</g>'
    glyph = _GLYPHS.get(merge or "", merge or "in") if inside else "in"
    what = f"{name}: {merge}" if merge else f"{name}: input"
    return (
        f'<g><title>{escape(what)}</title><circle class="vertex" {circle}/>'
        f'<text text-anchor="middle" x="{at.x:.1f}" y="{at.y + 3.6:.1f}">{escape(glyph)}</text>{label}</g>'
    )


def _line(line: Line, panel: _Panel) -> str:
    """A line of a link, with an arrowhead at its target."""
    target = panel.links[line.link][1]
    points = list(line.points)
    if line.ends:
        points[-1] = Point(points[-1].x, points[-1].y - _half_height(target, panel) - _ARROW + 1)
    between = f"{panel.source_of(line.link)} to {panel.target_of(line.link)}"
    path = f'<path class="link" d="{_curve(tuple(points))}"><title>{escape(between)}</title></path>'
    if not line.ends:
        return path
    x, y = points[-1].x, points[-1].y
    corners = f"M{x - 3.5:.1f} {y - 1:.1f}L{x + 3.5:.1f} {y - 1:.1f}L{x:.1f} {y + _ARROW:.1f}Z"
    return f'{path}<path class="arrow" d="{corners}"/>'


def _stubs(panel: _Panel) -> str:
    """The sources and targets of lines that a fold cuts, written where there is room."""
    ends: list[tuple[Point, str, float]] = []  # with the offset of a second row of text
    for line in panel.places.lines:
        if not line.ends:
            ends.append((line.points[-1], f"to {panel.target_of(line.link)}", -11.0))
        if not line.starts:
            first = line.points[0]
            ends.append((Point(first.x, first.y + 8), f"from {panel.source_of(line.link)}", 11.0))
    parts: list[str] = []
    reached: dict[float, float] = {}  # how far to the right the text of each row reaches, by the row's height
    for point, text, second in sorted(ends):
        rows = [y for y in (point.y, point.y + second) if point.x >= reached.get(y, -1.0)]
        if rows:
            text = _cut(text, _LONGEST_NAME)
            reached[rows[0]] = point.x + 8 + _SMALL * len(text)
            parts.append(f'<text class="soft small" x="{point.x + 4:.1f}" y="{rows[0]:.1f}">{escape(text)}</text>')
    return "".join(parts)


def _half_height(node: Node, panel: _Panel) -> float:
    if isinstance(node, tuple):
        return _HEIGHT / 2
    several = node in panel.graph.vertices and _arriving(panel, str(node)) > 1
    return _RADIUS if several else _DOT


def _box(at: Point, edge: Edge, change: str) -> str:
    label = _label(edge)
    width = _CHARACTER * len(label) + 2 * _PADDING
    details = f"{edge.id}: {', '.join(edge.src)} to {edge.dst}; {edge.op} {_written(edge.params)}"
    mark = f" {change}" if change else ""
    return (
        f"<g><title>{escape(details.strip())}</title>"
        f'<rect class="op{mark}" style="fill:var(--{_kind(edge.op)})" x="{at.x - width / 2:.1f}" '
        f'y="{at.y - _HEIGHT / 2:.1f}" width="{width:.1f}" height="{_HEIGHT}" rx="5"/>'
        f'<text text-anchor="middle" x="{at.x:.1f}" y="{at.y + 3.8:.1f}">{escape(label)}</text></g>'
    )


def _curve(points: tuple[Point, ...]) -> str:
    """A smooth line, vertical where it starts, passes a point and ends."""
    path = f"M{points[0].x:.1f} {points[0].y:.1f}"
    for one, other in pairwise(points):
        middle = (one.y + other.y) / 2
        path += f"C{one.x:.1f} {middle:.1f} {other.x:.1f} {middle:.1f} {other.x:.1f} {other.y:.1f}"
    return path


def _kind(op: str) -> str:
    return next((kind for kind, starts in _KINDS if op.startswith(starts)), "other")


def _label(edge: Edge) -> str:
    """The operation with its kernel, unless its name has it, its channels and its stride."""
    params = dict(edge.params)
    if edge.op == "mixed":
        return f"one of {len(params.get('among', ()))}"
    if edge.op == "optional":
        return f"{params['of']['op']}?"
    if edge.op == _DELAY:
        return f"{edge.src[0]} before"
    if edge.op == "act":
        return str(params.get("name", "relu"))
    name = edge.op.removeprefix("@")
    kernel = f" {params['k']}×{params['k']}" if isinstance(params.get("k"), int) else ""
    width = params.get("c", params.get("features", params.get("classes")))
    channels = f" {width}" if width is not None and not str(width).startswith("$") else ""
    stride = f" /{params['s']}" if params.get("s", 1) not in (1, "$s") else ""
    return f"{name}{kernel}{channels}{stride}"


def _written(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _heading(topology: Topology, parent: Topology | None) -> str:
    name = topology.name or "topology"
    legend = f'<text class="soft" x="{_MARGIN}" y="50">{_MARKS}</text>' if parent else ""
    return (
        f'<text class="title" x="{_MARGIN}" y="20">{escape(_cut(name, 60))}</text>'
        f'<text class="soft" x="{_MARGIN}" y="36">{escape(_subtitle(topology))}</text>{legend}'
    )


def _subtitle(topology: Topology) -> str:
    tokens = topology.input.tokens
    shape = f"{tokens} tokens" if tokens else "×".join(map(str, topology.input.size))
    facts = (
        f"{topology.parameters:,} parameters, {topology.flops / 1e6:.3g} MFLOPs, {shape} to {topology.output.classes}"
    )
    return f"{facts}, {topology.hash[:8]}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _change(parent: Topology, graph: str, edge: Edge) -> str:
    """``new`` if the parent has no such edge or another operation on it, ``changed`` if anything else differs."""
    known = parent.graphs[graph].edges if graph in parent.graphs else ()
    for known_edge in known:
        if known_edge.id == edge.id:
            return "" if known_edge == edge else "changed" if known_edge.op == edge.op else "new"
    for flat_edge in parent.flat.edges:
        if flat_edge.key == edge.id:
            before = (flat_edge.op, dict(flat_edge.params), (flat_edge.src,), flat_edge.dst)
            same = before == (edge.op, edge.params, edge.src, edge.dst)
            return "" if same else "changed" if flat_edge.op == edge.op else "new"
    return "new"


def _gone(topology: Topology, parent: Topology) -> list[str]:
    now = {edge.key for edge in topology.flat.edges if edge.op not in _NOTHING}
    unseen = (*_IDENTITY, *_NOTHING)
    return [edge.key for edge in parent.flat.edges if edge.key not in now and edge.op not in unseen]
