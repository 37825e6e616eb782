"""The edit distance of networks: the number of morphisms between them, and an embedding that gives a valid kernel.

Paper: Jin et al., "Auto-Keras: An Efficient Neural Architecture Search System", KDD 2019 (arXiv 1806.10282, 2018),
section 3.1: the distance of layers by dynamic programming, that of skip connections by matching, and the embedding of
Bourgain (1985), which makes exp(-rho^2) positive semi-definite, whereas exp(-d^2) may not be.
Departs from it: the layers are those on the longest path from input to output, among equally long ones that with the
most multiplications; all other edges are skip connections. The embedding is divided by the square root of its
dimension, so that no distance increases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from katib_flow.models import layers
from katib_flow.models.flat import FlatEdge
from katib_flow.models.layers import flow, total
from katib_flow.models.topology import Topology

Array = NDArray[np.float64]
Skip = tuple[int, int]
"""A skip connection: the number of layers before its start, and the number of layers that it skips."""


@dataclass(frozen=True)
class Network:
    """What the distance depends on: the widths of the layers in order, and the skip connections."""

    widths: tuple[int, ...]
    skips: tuple[Skip, ...]


def distances(one: Sequence[Network], other: Sequence[Network], skip_weight: float) -> Array:
    """The distances between two sequences of networks, shape (one, other).

    Args:
        skip_weight: lambda, the weight of skip connections relative to layers.
    """
    by_layers = layer_distances([network.widths for network in one], [network.widths for network in other])
    by_skips = [[skip_distance(*sorted((a.skips, b.skips))) for b in other] for a in one]
    return by_layers + skip_weight * np.array(by_skips, dtype=float).reshape(by_layers.shape)


def layer_distances(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> Array:
    """The least cost of turning one sequence of layers into another, shape (one, other).

    To insert or delete a layer costs 1; to change a width costs the difference divided by the larger width.
    """
    (rows, row_lengths), (columns, column_lengths) = _stacked(one), _stacked(other)
    table = np.zeros((rows.shape[1] + 1, columns.shape[1] + 1, len(one), len(other)))
    table[:, 0] = np.arange(len(table))[:, None, None]
    table[0] = np.arange(table.shape[1])[:, None, None]
    for i in range(1, len(table)):
        for j in range(1, table.shape[1]):
            a, b = rows[:, i - 1, None], columns[None, :, j - 1]
            other_width = np.abs(a - b) / np.maximum(a, b)
            shorter = np.minimum(table[i - 1, j], table[i, j - 1]) + 1
            table[i, j] = np.minimum(shorter, table[i - 1, j - 1] + other_width)
    here, there = np.arange(len(one))[:, None], np.arange(len(other))[None]
    return table[row_lengths[:, None], column_lengths[None], here, there]


def _stacked(sequences: Sequence[Sequence[int]]) -> tuple[Array, NDArray[np.int_]]:
    """Sequences as rows of one matrix, padded with ones, and their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=int)
    rows = np.ones((len(sequences), max(lengths, default=0)))
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows, lengths


@lru_cache(maxsize=1 << 16)
def skip_distance(one: tuple[Skip, ...], other: tuple[Skip, ...]) -> float:
    """The least cost of a matching of skip connections, plus one for each unmatched one."""
    if not one or not other:
        return float(abs(len(one) - len(other)))
    a, b = np.array(one, dtype=float)[:, None], np.array(other, dtype=float)[None]
    costs = np.abs(a - b).sum(axis=2) / np.maximum(np.maximum(a, b).sum(axis=2), 1)
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].sum()) + abs(len(one) - len(other))


@dataclass(frozen=True)
class Embedding:
    """The embedding of Bourgain: each coordinate is the distance to the nearest network of a random set of anchors.

    Networks that are not anchors have positions as well, and the kernel over all networks is valid.

    Attributes:
        sets: the positions of the anchors in each set.
    """

    sets: tuple[tuple[int, ...], ...]

    @classmethod
    def drawn(cls, count: int, rng: np.random.Generator) -> "Embedding":
        """Draw random sets of 1, 2, 4, ... of ``count`` anchors, log(count) sets of each size."""
        rounds = max(1, math.ceil(math.log(max(1, count))))
        sizes = [1 << power for power in range(max(1, math.ceil(math.log2(max(1, count)))))]
        drawn = (rng.choice(count, min(size, count), replace=False) for size in sizes for _ in range(rounds))
        return cls(tuple(tuple(sorted(int(at) for at in chosen)) for chosen in drawn))

    def positions(self, to_anchors: Array) -> Array:
        """Positions of networks, shape (network, coordinate), from their distances to anchors, (network, anchor)."""
        coordinates = [to_anchors[:, list(chosen)].min(axis=1) for chosen in self.sets]
        return np.stack(coordinates, axis=1) / math.sqrt(len(self.sets))


def squared(one: Array, other: Array) -> Array:
    """Squared distances between positions, rho^2, shape (one, other)."""
    return np.maximum(((one[:, None] - other[None]) ** 2).sum(axis=2), 0.0)


@lru_cache(maxsize=4096)
def network_of(topology: Topology) -> Network:
    """The layers and skip connections of a topology.

    A layer is an edge with weights other than those of a normalisation; its position is the largest number of layers
    before it. Every edge off the longest path is a skip connection, whatever its operation.
    """
    flat, shapes = topology.flat.live, topology.shapes
    ranks, reached = {flat.input: 0}, {flat.input: (0, 0)}
    came: dict[str, FlatEdge] = {}
    for vertex in flat.vertices:
        for edge in flat.incoming[vertex] if vertex != flat.input else ():
            if edge.dead or edge.src not in reached:
                continue
            count, work = reached[edge.src]
            length = (count + _is_layer(edge), work + total(edge.layers, shapes[edge.src])[1])
            if vertex not in reached or length > reached[vertex]:
                reached[vertex], came[vertex] = length, edge
        ranks[vertex] = reached.get(vertex, (0, 0))[0]
    path: list[FlatEdge] = []
    while (here := path[-1].src if path else flat.output) in came:
        path.append(came[here])
    widths = tuple(flow(edge.layers, shapes[edge.src])[-1][0] for edge in reversed(path) if _is_layer(edge))
    on_path = {edge.key for edge in path}
    aside = [edge for edge in flat.edges if not edge.dead and edge.key not in on_path]
    skips = sorted((ranks[edge.src], ranks[edge.dst] - ranks[edge.src]) for edge in aside)
    return Network(widths, tuple(skips))


def _is_layer(edge: FlatEdge) -> bool:
    weighted = (layers.Conv, layers.Linear, layers.Residual, layers.Mixed, layers.Module)
    return any(isinstance(layer, weighted) for layer in edge.layers)
