"""Where the nodes of a layered drawing stand: ranks by the longest path, order by barycentre, x by least squares.

A drawing with many ranks is folded into columns, cut where the fewest lines pass.
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
"""Of a column; a drawing with more is folded."""
STUB = 13.0
"""Length of the end of a line that a fold cuts, in pixels."""
COLUMN_GAP = 56.0
"""On the right of a column, for the names of what its lines come from and go to."""


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """What is drawn of a link, in one piece.

    Attributes:
        points: which it passes, from the centre of its source to that of its target where no fold cuts it.
        link: position of the link.
        starts, ends: whether it starts at the source, and ends at the target, of the link; a fold cuts it otherwise.
    """

    points: tuple[Point, ...]
    link: int
    starts: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Layout:
    """Centres of nodes, and the lines of links."""

    at: Mapping[Node, Point]
    lines: Sequence[Line]
    width: float
    height: float


class _Bend(NamedTuple):
    """Where a long link passes a rank."""

    link: int
    rank: int


def layout(
    widths: Mapping[Node, float], links: Sequence[tuple[Node, Node]], *, gap: float = 14, step: float = 44
) -> Layout:
    """Place nodes from the top down.

    Args:
        widths: of each node, the sources of links before their targets.
        gap: between neighbours; ``step``: between ranks.
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
    x = {node: float(place) for row in rows for place, node in enumerate(row)}
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
    """The rows in columns of at most ``MOST_RANKS``, side by side."""
    rank_of = {node: rank for rank, row in enumerate(rows) for node in row}
    starts = _column_starts(len(rows), [(rank_of[chain[0]], rank_of[chain[-1]]) for chain in chains])
    at: dict[Node, Point] = {}
    column_of: dict[Node, int] = {}
    shift, tallest = 0.0, 0
    above = STUB if len(starts) > 1 else 0.0  # room for the ends of lines that come from the column before
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
    beside = 0.0 if len(starts) > 1 else COLUMN_GAP  # what a fold has room for on the right, too
    return Layout(nodes_at, lines, shift - beside, step * tallest + 2 * above)


def _column_starts(ranks: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The rank at which each column starts: columns of about one length, cut where the fewest links pass.

    Args:
        spans: of each link, the ranks of its source and its target.
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
    """A link's line, cut where its nodes change their column."""
    cuts = [place for place in range(1, len(chain)) if column_of[chain[place]] != column_of[chain[place - 1]]]
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
    """Order a row by the middle of each one's neighbours, then space it."""
    row.sort(key=lambda node: _middle(node, near, x))
    _space(row, near, x, size, gap)


def _middle(node: Node, near: Mapping[Node, Sequence[Node]], x: Mapping[Node, float]) -> float:
    found = near.get(node, ())
    return float(np.mean([x[each] for each in found])) if found else x[node]


def _space(
    row: Sequence[Node],
    near: Mapping[Node, Sequence[Node]],
    x: dict[Node, float],
    size: Mapping[Node, float],
    gap: float,
) -> None:
    """As near to the middle of their neighbours as a row's order and widths allow, in least squares."""
    if not row:
        return
    wanted = np.array([_middle(node, near, x) for node in row])
    steps = [0.0] + [(size[one] + size[other]) / 2 + gap for one, other in pairwise(row)]
    offsets = np.cumsum(steps)
    placed = isotonic_regression(wanted - offsets).x + offsets
    x.update(zip(row, map(float, placed), strict=True))
