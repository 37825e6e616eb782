"""OTMANN, a pseudo-distance of networks: the cost of an optimal transport between the layers of both.

Paper: Kandasamy et al., "Neural Architecture Search with Bayesian Optimisation and Optimal Transport", NeurIPS 2018,
section 3 and equation 3: layer masses, label and structural mismatch, and the linear programme.
Departs from it: a layer is an edge of the topology; edges with neither weights nor a window (activations, identities,
mere normalisations) do not count. Other kinds of convolution (separable, dilated) are as far from a plain one as a
residual layer is in the authors' code.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from katib_flow.models import layers
from katib_flow.models.flat import FlatEdge
from katib_flow.models.layers import Layer, flow
from katib_flow.models.topology import Topology
from katib_flow.nas.distances.transport import Array, most_profit

UNMATCHED = 1.0  # cost of an unmatched unit of mass
ENDS = 0.1  # zeta: mass of the input, the output and all decision layers, each relative to that of the layers between
POOLS = 0.25  # cost between a maximum and a mean pooling
KERNELS = math.sqrt(2) / 10  # cost between convolutions, times the square root of the difference of their kernel sizes


@dataclass(frozen=True)
class Label:
    """The label of a layer: its kind (``conv``, ``pool``, ``dense``, ``input``, ...), family and kernel size."""

    kind: str
    family: object = None
    kernel: int = 0


@dataclass(frozen=True)
class Network:
    """What OTMANN depends on.

    Attributes:
        labels: the label of each layer, input and output included.
        masses: the mass of each layer, shape (layer,).
        paths: shape (layer, 6): lengths of the shortest, the longest and a random-walk path from the input, and the
            same to the output.
    """

    labels: tuple[Label, ...]
    masses: Array
    paths: Array

    @property
    def mass(self) -> float:
        """The total mass of the layers."""
        return float(self.masses.sum())


INPUT, OUTPUT, DECISION = Label("input"), Label("output"), Label("decision")


def distances(one: Sequence[Network], other: Sequence[Network], weights: Sequence[float]) -> Array:
    """The distances between two sequences of networks, shape (weight, one, other).

    Args:
        weights: weights nu of the structural cost.
    """
    if one is not other:
        rows, columns = (index.ravel() for index in np.indices((len(one), len(other))))
        return _of_pairs(one, other, rows, columns, weights).reshape(len(weights), len(one), len(other))
    upper = np.triu_indices(len(one), 1)
    result = np.zeros((len(weights), len(one), len(one)))
    result[:, upper[0], upper[1]] = _of_pairs(one, one, *upper, weights)
    return result + result.transpose(0, 2, 1)


def shares(distances: Array, one: Sequence[Network], other: Sequence[Network]) -> Array:
    """Normalised distances, from 0 to 1: distances divided by the mass of both networks; 0 if that is 0."""
    masses = np.add.outer([network.mass for network in one], [network.mass for network in other])
    return np.divide(distances, masses, out=np.zeros_like(distances), where=masses > 0)


Positions = NDArray[np.intp]


def _of_pairs(
    one: Sequence[Network], other: Sequence[Network], rows: Positions, columns: Positions, weights: Sequence[float]
) -> Array:
    """The distances between the networks at some rows and those at some columns, shape (weight, pair)."""
    saved = np.zeros((len(weights), len(rows)))
    for kind in sorted({label.kind for network in (*one, *other) for label in network.labels}):
        labels_of_one, masses_of_one, paths_of_one = _padded(one, kind)
        labels_of_other, masses_of_other, paths_of_other = _padded(other, kind)
        costs = _label_costs(labels_of_one, labels_of_other)[rows, columns]
        structure = np.abs(paths_of_one[rows, :, None] - paths_of_other[columns, None]).mean(axis=-1)
        supply, demand = masses_of_one[rows], masses_of_other[columns]
        for number, weight in enumerate(weights):
            saved[number] += most_profit(supply, demand, 2 * UNMATCHED - costs - weight * structure)
    masses = [np.array([network.mass for network in networks], dtype=float) for networks in (one, other)]
    return np.maximum(UNMATCHED * (masses[0][rows] + masses[1][columns]) - saved, 0.0)


def _padded(networks: Sequence[Network], kind: str) -> tuple[list[list[Label | None]], Array, Array]:
    """The layers of a kind in each network, padded with layers without mass: labels, masses and paths."""
    chosen = [[at for at, label in enumerate(network.labels) if label.kind == kind] for network in networks]
    width = max(1, *map(len, chosen))
    masses, paths = np.zeros((len(networks), width)), np.zeros((len(networks), width, 6))
    labels: list[list[Label | None]] = []
    for row, (network, at) in enumerate(zip(networks, chosen, strict=True)):
        masses[row, : len(at)], paths[row, : len(at)] = network.masses[at], network.paths[at]
        labels.append([*(network.labels[position] for position in at), *[None] * (width - len(at))])
    return labels, masses, paths


def _label_costs(one: Sequence[Sequence[Label | None]], other: Sequence[Sequence[Label | None]]) -> Array:
    """The label costs of all pairs of layers, shape (one, other, layer of one, layer of the other)."""
    known = list(dict.fromkeys(label for row in (*one, *other) for label in row))
    number = {label: at for at, label in enumerate(known)}
    table = np.array([[mislabelled(a, b) if a and b else 0.0 for b in known] for a in known])
    rows, columns = (np.array([[number[label] for label in row] for row in rows]) for rows in (one, other))
    return table[rows[:, None, :, None], columns[None, :, None, :]]


def mislabelled(one: Label, other: Label) -> float:
    """The cost of matching a unit of mass of two layers: 0 for equal labels; at most 1 unless it is infinite."""
    if one.kind != other.kind:
        return math.inf
    kernels = KERNELS * math.sqrt(abs(one.kernel - other.kernel))
    if one.family == other.family:
        return kernels
    return POOLS + kernels if one.kind == "pool" else 0.9 * kernels + 0.1 * UNMATCHED


@lru_cache(maxsize=4096)
def network_of(topology: Topology) -> Network:
    """The layers of a topology.

    The mass of a layer is the product of its numbers of input and output channels; that of a pooling is its number of
    channels.
    """
    flat, shapes = topology.flat.live, topology.shapes
    labels: dict[str, Label] = {flat.input: INPUT}
    masses: dict[str, float] = {}
    sources: dict[str, dict[str, None]] = {flat.input: {flat.input: None}}  # the layers that lead to each vertex
    parents: dict[str, list[str]] = {flat.input: []}
    for vertex in flat.vertices:
        for edge in flat.incoming[vertex] if vertex != flat.input else ():
            if edge.dead:
                continue
            key, label = f"edge {edge.key}", _label(edge)
            if label is None:
                sources.setdefault(vertex, {}).update(sources.get(edge.src, {}))
                continue
            labels[key], parents[key] = label, list(sources.get(edge.src, {}))
            before, after = shapes[edge.src], flow(edge.layers, shapes[edge.src])[-1]
            masses[key] = float(before[0] if label.kind == "pool" else before[0] * after[0])
            sources.setdefault(vertex, {})[key] = None
    end = f"output {flat.output}"
    labels[end], parents[end] = OUTPUT, list(sources.get(flat.output, {}))
    weighed = _weighed(labels, masses)
    return Network(tuple(labels.values()), np.array([weighed[key] for key in labels]), _paths(parents))


def _weighed(labels: Mapping[str, Label], masses: Mapping[str, float]) -> dict[str, float]:
    """The mass of every layer; input, output and decision layers get shares of the mass of all other layers."""
    between = sum(mass for key, mass in masses.items() if labels[key] != DECISION)
    decisions = sum(label == DECISION for label in labels.values())
    share = {"input": ENDS * between, "output": ENDS * between, "decision": ENDS * between / max(1, decisions)}
    return {key: share[label.kind] if label.kind in share else masses[key] for key, label in labels.items()}


def _paths(parents: Mapping[str, Sequence[str]]) -> Array:
    """Lengths of paths from the first layer and to the last, shape (layer, 6); layers come after their parents."""
    children: dict[str, list[str]] = {key: [] for key in parents}
    for key, before in parents.items():
        for parent in before:
            children[parent].append(key)
    ways = [(min, parents), (max, parents), (_mean, parents), (min, children), (max, children), (_mean, children)]
    return np.array([_lengths(reduce, near) for reduce, near in ways]).T


def _lengths(reduce: Callable[[Iterable[float]], float], near: Mapping[str, Sequence[str]]) -> list[float]:
    lengths: dict[str, float] = {}

    def length(key: str) -> float:
        if key not in lengths:
            lengths[key] = 1 + reduce([length(parent) for parent in near[key]]) if near[key] else 0.0
        return lengths[key]

    return [length(key) for key in near]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _label(edge: FlatEdge) -> Label | None:
    """The label of an edge; None if it does not count as a layer."""
    inner = list(_inner(edge.layers))
    convolutions = [layer for layer in inner if isinstance(layer, layers.Conv)]
    pools = [layer for layer in inner if isinstance(layer, layers.Pool)]
    if any(isinstance(layer, layers.Linear) for layer in inner):
        decides = any(isinstance(layer, layers.GlobalMean) for layer in inner)
        return DECISION if decides else Label("dense")
    if convolutions:
        family = tuple((layer.groups, layer.dilation, layer.expand) for layer in convolutions)
        return Label("conv", family, max(side for layer in convolutions for side in layer.kernel))
    return Label("pool", pools[0].kind, pools[0].kernel) if pools else None


def _inner(given: Iterable[Layer]) -> Iterator[Layer]:
    for layer in given:
        yield from _inner(layer.layers) if isinstance(layer, layers.Residual) else (layer,)
