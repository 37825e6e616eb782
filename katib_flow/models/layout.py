"""Where the things of a layered drawing stand: ranks by the longest path, order by barycentre, x by least squares."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

Node = Hashable
SWEEPS = 6


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """Centres of nodes, and for each link the points that its line passes."""

    at: Mapping[Node, Point]
    lines: Sequence[tuple[Point, ...]]
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
    left = min((x[node] - size[node] / 2 for node in x), default=0.0)
    right = max((x[node] + size[node] / 2 for node in x), default=0.0)
    rank_of = {node: rank for rank, row in enumerate(rows) for node in row}
    at = {node: Point(x[node] - left, step / 2 + step * rank_of[node]) for node in x}
    lines = [tuple(at[node] for node in chain) for chain in chains]
    return Layout({node: at[node] for node in widths}, lines, right - left, step * len(rows))


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
