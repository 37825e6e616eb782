"""Weights that a network takes over from another one with some of the same layers.

Channels are identified by where they come from, so a layer whose input lost a branch keeps the columns of the others.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from katib_flow.models import layers
from katib_flow.models.channels import Channels, escaped, prefix, tensors
from katib_flow.models.flat import FlatEdge
from katib_flow.models.layers import flow
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights

Array = NDArray[np.generic]


def carried(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """The tensors of layers that both networks have under the same name, matched channel by channel if need be.

    Channels are identified by where they come from. New columns are zero; a tensor with new rows is left out, so that
    it is initialised at random.
    """
    before, after = places(parent), places(child)
    kept: Weights = {}
    for name, (shape, rows, columns) in after.items():
        old = weights.get(name)
        if old is None or name not in before:
            continue
        _, old_rows, old_columns = before[name]
        if tuple(old.shape) == shape and rows == old_rows and columns == old_columns:
            kept[name] = old
        elif len(shape) == old.ndim and set(rows) <= set(old_rows):
            taken = _taken(old, shape, rows, old_rows, columns, old_columns)
            kept |= {name: taken} if taken.shape == shape else {}
    return kept | _unopened(parent, weights, child)


def alike(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """The tensors that both networks have under the same name in the same shape, whatever their channels."""
    shapes = {name: shape for name, (shape, _, _) in places(child).items()}
    kept = {name: tensor for name, tensor in weights.items() if tensor.shape == shapes.get(name)}
    return kept | _unopened(parent, weights, child)


def unchanged(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """The tensors of ``carried`` for edges that have the same operation on the same vertex in both networks."""
    before = {edge.key: (edge.src, edge.layers) for edge in parent.flat.live.edges}
    new = tuple(prefix(edge) for edge in child.flat.live.edges if before.get(edge.key) != (edge.src, edge.layers))
    return {name: tensor for name, tensor in carried(parent, weights, child).items() if not name.startswith(new)}


def _unopened(parent: Topology, weights: Weights, child: Topology) -> Weights:
    """The tensors of mixed operations and of the user's modules, which are taken over as a whole or not at all."""
    before = {edge.key: edge for edge in parent.flat.live.edges}
    kept: Weights = {}
    for edge in child.flat.live.edges:
        old = before.get(edge.key)
        if old is not None and any(isinstance(layer, layers.Mixed | layers.Module) for layer in edge.layers):
            same = old.layers == edge.layers and parent.shapes[old.src] == child.shapes[edge.src]
            names = [name for name in weights if same and name.startswith(prefix(edge))]
            kept |= {name: weights[name] for name in names}
    return kept


def _taken(old: Array, shape: Sequence[int], rows: Any, old_rows: Any, columns: Any, old_columns: Any) -> Array:
    new = np.zeros(shape, dtype=old.dtype)
    row_of = {label: position for position, label in enumerate(old_rows)}
    taken = old[[row_of[label] for label in rows]] if rows else old
    if columns:
        column_of = {label: position for position, label in enumerate(old_columns)}
        pairs = [(position, column_of[label]) for position, label in enumerate(columns) if label in column_of]
        if pairs:
            new[:, [position for position, _ in pairs]] = fitted(taken[:, [at for _, at in pairs]], shape[2:])
        return new
    return np.asarray(fitted(taken, shape[2:]) if len(shape) > 2 else taken)


def fitted(kernels: Array, size: Sequence[int]) -> Array:
    """Kernels, shape (out, in, height, width), zero-padded or cropped around their centre to a size."""
    for axis, wanted in enumerate(size, start=2):
        have = kernels.shape[axis]
        if wanted > have:
            before = (wanted - have) // 2
            room = [(0, 0)] * kernels.ndim
            room[axis] = (before, wanted - have - before)
            kernels = np.pad(kernels, room)
        elif wanted < have:
            kernels = np.take(kernels, range((have - wanted) // 2, (have - wanted) // 2 + wanted), axis=axis)
    return kernels


Labels = tuple[tuple[str, int, int], ...]
"""For each channel: where it comes from, its number there, and how many copies of it come before it."""
Places = dict[str, tuple[tuple[int, ...], Labels, Labels]]


def places(topology: Topology) -> Places:
    """For each tensor of a network, its shape and the labels of its rows and columns."""
    flat = topology.flat.live
    channels = Channels(flat, topology.shapes)
    labels: dict[str, Labels] = {flat.input: _numbered(flat.input, len(channels.at[flat.input]))}
    tensors_by_name: Places = {
        f"architecture.{escaped(group)}": ((len(names),), (), ()) for group, names in flat.groups.items()
    }
    for vertex, merge in flat.vertices.items():
        edges = flat.incoming[vertex]
        if vertex == flat.input or not edges:
            continue
        arriving = [_along(channels, edge, labels.get(edge.src, ()), tensors_by_name) for edge in edges]
        if len(arriving) == 1:
            labels[vertex] = arriving[0]
        elif merge in ("concat", "pad-concat"):
            labels[vertex] = _apart(label for branch in arriving for label in branch)
        else:
            labels[vertex] = _numbered(vertex, len(channels.at[vertex]))
        if merge == "wsum" and len(edges) > 1:
            tensors_by_name[f"gates.{escaped(vertex)}"] = ((len(edges),), tuple((edge.key, 0, 0) for edge in edges), ())
    return tensors_by_name


def _along(channels: Channels, edge: FlatEdge, here: Labels, tensors_by_name: Places) -> Labels:
    """The labels of an edge's output channels; adds its tensors to ``tensors_by_name``."""
    if edge.dead or edge.delayed:
        return _numbered(edge.key, flow(edge.layers, channels.shapes[edge.src])[-1][0])
    for step in channels.steps[edge.key]:
        name = prefix(edge) + step.path
        own = isinstance(step.layer, layers.Linear | layers.Conv) and step.before != step.after
        out = _numbered(name, len(step.after)) if own or len(step.after) != len(here) else here
        for tensor in tensors(step):
            rows, columns = out if tensor.rows else (), here if tensor.columns else ()
            tensors_by_name[prefix(edge) + tensor.name] = (tensor.shape, rows, columns)
        here = out
    return here


def _numbered(name: str, count: int) -> Labels:
    return tuple((name, number, 0) for number in range(count))


def _apart(labels: Iterable[tuple[str, int, int]]) -> Labels:
    """The labels of a concatenation, in which copies of a channel are numbered in order."""
    seen: Counter[tuple[str, int]] = Counter()
    apart: list[tuple[str, int, int]] = []
    for name, number, _ in labels:
        apart.append((name, number, seen[name, number]))
        seen[name, number] += 1
    return tuple(apart)
