"""The positions of the nodes of a layered drawing: rank by longest path, order by barycentre, x by least squares.

A drawing with many ranks is folded into columns, cut where the fewest lines cross.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

Node = Hashable
SWEEPS = 6
MOST_RANKS = 16
"""The most ranks of a column; a drawing with more is folded."""
STUB = 13.0
"""Length, in pixels, of the loose end of a line that a fold cuts."""
COLUMN_GAP = 56.0
"""Space on the right of a column, in pixels, for the names of the sources and targets of its lines."""


class Point(NamedTuple):
    """A position in pixels, from the top left corner."""

    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """One piece of the line of a link.

    Attributes:
        points: the points that it passes, from the centre of the source to that of the target unless a fold cuts it.
        link: position of the link.
        starts, ends: whether it starts at the link's source, and ends at its target; otherwise a fold cuts it there.
    """

    points: tuple[Point, ...]
    link: int
    starts: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Layout:
    """The centres of nodes, the lines of links, and the size of the drawing, in pixels."""

    at: Mapping[Node, Point]
    lines: Sequence[Line]
    width: float
    height: float


class _Bend(NamedTuple):
    """The point at which a long link passes a rank."""

    link: int
    rank: int


def layout(
    widths: Mapping[Node, float], links: Sequence[tuple[Node, Node]], *, gap: float = 14, step: float = 44
) -> Layout:
    """Place nodes from the top down.

    Args:
        widths: the width of each node, in pixels; the source of a link comes before its target.
        links: pairs of source and target.
        gap: distance between neighbours.
        step: distance between ranks.
    """
    ranks = dict.fromkeys(widths, 0)
    for node in widths:
        for src, dst in links:
            if dst == node:
                ranks[node] = max(ranks[node], ranks[src] + 1)
    chains = [_chain(number, link, ranks) for number, link in enumerate(links)]
    rows: list[list[Node]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
    for node, rank in ranks.items():
        rows[rank].append(node)
    for chain in chains:
        for bend in chain[1:-1]:
            rows[bend.rank].append(bend)  # type: ignore[union-attr]
    above, below = _neighbours(chains)
    size = {node: widths.get(node, 4.0) for row in rows for node in row}
    x = {node: float(position) for row in rows for position, node in enumerate(row)}
    for sweep in range(SWEEPS):
        order = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for rank in order:
            near = above if sweep % 2 == 0 else below
            _arrange(rows[rank], near, x, size, gap)
    for _ in range(SWEEPS):
        for row in rows:
            both = {node: [*above.get(node, ()), *below.get(node, ())] for node in row}
            _space(row, both, x, size, gap)
    return _folded(rows, chains, x, size, step)


def _folded(
    rows: Sequence[Sequence[Node]],
    chains: Sequence[Sequence[Node]],
    x: Mapping[Node, float],
    size: Mapping[Node, float],
    step: float,
) -> Layout:
    """Arrange the rows in columns of at most ``MOST_RANKS`` ranks, side by side."""
    rank_of = {node: rank for rank, row in enumerate(rows) for node in row}
    starts = _column_starts(len(rows), [(rank_of[chain[0]], rank_of[chain[-1]]) for chain in chains])
    at: dict[Node, Point] = {}
    column_of: dict[Node, int] = {}
    shift, tallest = 0.0, 0
    above = STUB if len(starts) > 1 else 0.0  # room for the loose ends of lines from the previous column
    for column, (first, end) in enumerate(pairwise([*starts, len(rows)])):
        nodes = [node for row in rows[first:end] for node in row]
        left = min((x[node] - size[node] / 2 for node in nodes), default=0.0)
        right = max((x[node] + size[node] / 2 for node in nodes), default=0.0)
        for node in nodes:
            at[node] = Point(shift + x[node] - left, above + step * (rank_of[node] - first + 0.5))
            column_of[node] = column
        shift, tallest = shift + right - left + COLUMN_GAP, max(tallest, end - first)
    lines = [line for link, chain in enumerate(chains) for line in _pieces(link, chain, at, column_of, step)]
    nodes_at = {node: point for node, point in at.items() if not isinstance(node, _Bend)}
    beside = 0.0 if len(starts) > 1 else COLUMN_GAP  # without a fold there are no names on the right
    return Layout(nodes_at, lines, shift - beside, step * tallest + 2 * above)


def _column_starts(ranks: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The rank at which each column starts: columns of similar length, cut where the fewest links cross.

    Args:
        spans: the ranks of the source and the target of each link.
    """
    columns = -(-ranks // MOST_RANKS)
    starts = [0]
    for left in range(columns - 1, 0, -1):
        longest = min(MOST_RANKS, ranks - starts[-1] - left)
        even = (ranks - starts[-1]) / (left + 1)
        shortest = max(1, ranks - starts[-1] - left * MOST_RANKS, longest // 2)
        cuts = range(starts[-1] + shortest, starts[-1] + longest + 1)
        crossing = {cut: sum(src < cut <= dst for src, dst in spans) for cut in cuts}
        starts.append(min(cuts, key=lambda cut: (crossing[cut], abs(cut - starts[-1] - even))))
    return starts


def _pieces(
    link: int, chain: Sequence[Node], at: Mapping[Node, Point], column_of: Mapping[Node, int], step: float
) -> Iterator[Line]:
    """The line of a link, cut where its nodes change columns."""
    cuts = [
        position for position in range(1, len(chain)) if column_of[chain[position]] != column_of[chain[position - 1]]
    ]
    for first, end in pairwise([0, *cuts, len(chain)]):
        points = [at[node] for node in chain[first:end]]
        if first > 0:
            points.insert(0, Point(points[0].x, points[0].y - step / 2 - STUB))
        if end < len(chain):
            points.append(Point(points[-1].x, points[-1].y + step / 2 + STUB))
        yield Line(tuple(points), link, starts=first == 0, ends=end == len(chain))


def _chain(number: int, link: tuple[Node, Node], ranks: Mapping[Node, int]) -> list[Node]:
    src, dst = link
    return [src, *(_Bend(number, rank) for rank in range(ranks[src] + 1, ranks[dst])), dst]


def _neighbours(chains: Sequence[Sequence[Node]]) -> tuple[dict[Node, list[Node]], dict[Node, list[Node]]]:
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            above.setdefault(other, []).append(one)
            below.setdefault(one, []).append(other)
    return above, below


def _arrange(
    row: list[Node],
    near: Mapping[Node, Sequence[Node]],
    x: dict[Node, float],
    size: Mapping[Node, float],
    gap: float,
) -> None:
    """Order a row by the mean position of each node's neighbours, then space it."""
    row.sort(key=lambda node: _middle(node, near, x))
    _space(row, near, x, size, gap)


def _middle(node: Node, near: Mapping[Node, Sequence[Node]], x: Mapping[Node, float]) -> float:
    neighbours = near.get(node, ())
    return float(np.mean([x[neighbour] for neighbour in neighbours])) if neighbours else x[node]


def _space(
    row: Sequence[Node],
    near: Mapping[Node, Sequence[Node]],
    x: dict[Node, float],
    size: Mapping[Node, float],
    gap: float,
) -> None:
    """Move nodes as near to the mean of their neighbours as a row's order and widths allow, by least squares."""
    if not row:
        return
    wanted = np.array([_middle(node, near, x) for node in row])
    steps = [0.0] + [(size[one] + size[other]) / 2 + gap for one, other in pairwise(row)]
    offsets = np.cumsum(steps)
    placed = isotonic_regression(wanted - offsets).x + offsets
    x.update(zip(row, map(float, placed), strict=True))
