"""A topology as a picture: SVG of its graphs from the top down, cells once beside the network, changes marked.

Operations are boxes, coloured by kind; a vertex that merges several values shows how. Hovering tells the details; the
colours follow the reader's light or dark theme.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from katib_flow.models.layout import Layout, Node, Point, layout
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
_GLYPHS = {"add": "+", "concat": "‖", "pad-concat": "‖", "mul": "×", "mean": "μ", "wsum": "Σ"}
_IDENTITY = ("identity", "skip")
_CHARACTER, _PADDING, _HEIGHT = 6.7, 9.0, 22.0
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
.link{fill:none;stroke:var(--line);stroke-width:1.3}.frame{fill:none;stroke:var(--frame)}
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


def svg(topology: Topology, parent: Topology | None = None) -> str:
    """The network as SVG; an amber frame is new since the parent, a dashed one changed; what is gone is named."""
    panels = [_panel(name, topology.graphs[name]) for name in _used(topology)]
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
    """Where the graphs begin, below the heading."""
    return _TITLE + (14.0 if parent else 0.0)


def _used(topology: Topology) -> list[str]:
    """The root graph, then the cells that it holds, those within them after them."""
    order = [topology.root]
    for name in order:
        inner = (edge.op[1:] for edge in topology.graphs[name].edges if edge.op.startswith("@"))
        order += [each for each in dict.fromkeys(inner) if each not in order]
    return order


def _uses(topology: Topology, name: str) -> int:
    return sum(edge.op == f"@{name}" for graph in topology.graphs.values() for edge in graph.edges)


def _panel(name: str, graph: Graph) -> _Panel:
    """Vertices and operations as nodes; an identity is a plain line."""
    widths: dict[Node, float] = dict.fromkeys(graph.inputs, 20.0)
    links: list[tuple[Node, Node]] = []
    joined = {f"{vertex}=": vertex for vertex in _loose(graph)}
    plain = [*graph.edges, *(Edge(id=key, src=(v,), dst=graph.output, op="identity") for key, v in joined.items())]
    for vertex in _ordered(graph, plain):
        for edge in plain:
            if edge.dst == vertex:
                if edge.op in _IDENTITY and not edge.params:
                    links.append((edge.src[0], vertex))
                else:
                    box = ("op", edge.id)
                    widths[box] = _CHARACTER * len(_label(edge)) + 2 * _PADDING
                    links += [(src, box) for src in edge.src] + [(box, vertex)]
        widths[vertex] = 16.0
    return _Panel(name, graph, layout(widths, links), links)


def _loose(graph: Graph) -> list[str]:
    read = {vertex for edge in graph.edges for vertex in edge.src}
    return [vertex for vertex in graph.loose if vertex not in read]


def _ordered(graph: Graph, edges: list[Edge]) -> Iterator[str]:
    """Vertices, each after those it depends on."""
    done, waiting = set(graph.inputs), list(graph.vertices)
    while waiting:
        ready = [v for v in waiting if all(set(edge.src) <= done for edge in edges if edge.dst == v)]
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
    parts += [f'<path class="link" d="{_curve(line)}"/>' for line in places.lines]
    merging = {name: merge for name, merge in panel.graph.vertices.items() if _arriving(panel, name) > 1}
    for vertex in [*panel.graph.inputs, *panel.graph.vertices]:
        parts.append(_vertex(places.at[vertex], vertex, merging.get(vertex), inside=vertex in panel.graph.vertices))
    for edge in panel.graph.edges:
        if ("op", edge.id) in places.at:
            change = _change(parent, panel.name, edge) if parent else ""
            parts.append(_box(places.at["op", edge.id], edge, change))
    return "".join([*parts, "</g>"])


def _arriving(panel: _Panel, vertex: str) -> int:
    return sum(dst == vertex for _, dst in panel.links)


def _vertex(at: Point, name: str, merge: str | None, *, inside: bool) -> str:
    if merge is None and inside:
        return f'<g><title>{escape(name)}</title><circle class="dot" cx="{at.x:.1f}" cy="{at.y:.1f}" r="2.6"/></g>'
    glyph = _GLYPHS.get(merge or "", merge or "in") if inside else "in"
    what = f"{name}: {merge}" if merge else f"{name}: input"
    return (
        f'<g><title>{escape(what)}</title><circle class="vertex" cx="{at.x:.1f}" cy="{at.y:.1f}" r="9"/>'
        f'<text text-anchor="middle" x="{at.x:.1f}" y="{at.y + 3.6:.1f}">{escape(glyph)}</text></g>'
    )


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
    """A smooth line, upright where it starts, passes and ends."""
    path = f"M{points[0].x:.1f} {points[0].y:.1f}"
    for one, other in pairwise(points):
        middle = (one.y + other.y) / 2
        path += f"C{one.x:.1f} {middle:.1f} {other.x:.1f} {middle:.1f} {other.x:.1f} {other.y:.1f}"
    return path


def _kind(op: str) -> str:
    return next((kind for kind, starts in _KINDS if op.startswith(starts)), "other")


def _label(edge: Edge) -> str:
    """The operation, its kernel where it does not name it, its channels and stride."""
    params = dict(edge.params)
    if edge.op == "mixed":
        return f"one of {len(params.get('among', ()))}"
    if edge.op == "optional":
        return f"{params['of']['op']}?"
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
    marks = f'<text class="soft" x="{_MARGIN}" y="50">{_MARKS}</text>' if parent else ""
    return (
        f'<text class="title" x="{_MARGIN}" y="20">{escape(_cut(name, 60))}</text>'
        f'<text class="soft" x="{_MARGIN}" y="36">{escape(_subtitle(topology))}</text>{marks}'
    )


def _subtitle(topology: Topology) -> str:
    shape = "×".join(map(str, topology.input.shape))
    facts = (
        f"{topology.parameters:,} parameters, {topology.flops / 1e6:.3g} MFLOPs, {shape} to {topology.output.classes}"
    )
    return f"{facts}, {topology.hash[:8]}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _change(parent: Topology, graph: str, edge: Edge) -> str:
    """``new``: the parent has no such edge, or another operation there; ``changed``: it stands there otherwise."""
    known = parent.graphs[graph].edges if graph in parent.graphs else ()
    for each in known:
        if each.id == edge.id:
            return "" if each == edge else "changed" if each.op == edge.op else "new"
    for each in parent.flat.edges:
        if each.key == edge.id:
            same = (each.op, dict(each.params), (each.src,), each.dst) == (edge.op, edge.params, edge.src, edge.dst)
            return "" if same else "changed" if each.op == edge.op else "new"
    return "new"


def _gone(topology: Topology, parent: Topology) -> list[str]:
    now = {edge.key for edge in topology.flat.edges}
    return [edge.key for edge in parent.flat.edges if edge.key not in now and edge.op not in _IDENTITY]
