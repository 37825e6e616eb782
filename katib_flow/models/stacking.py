"""The morphism ``concat``: the channels of an earlier vertex are concatenated to a later one, at first unused.

Paper: Elsken et al., "Simple and Efficient Architecture Search for Convolutional Neural Networks", 2017, section 3,
network morphism of type II: the layers that read the concatenation have zero weights for the new channels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import SpecError
from katib_flow.models import layers
from katib_flow.models.draft import Draft
from katib_flow.models.edits import Fields, edit, ends_of, new_key
from katib_flow.models.inheritance import Array, Labels, places
from katib_flow.models.topology import Topology
from katib_flow.models.weights import Weights


def _concat_transfer(parent: Topology, weights: Weights, child: Topology, fields: Fields) -> Weights:
    before, after = places(parent), places(_marked(child, _key(parent, fields)))
    new = dict(weights)
    for name in places(child).keys() & weights.keys():
        (shape, *labels), (_, *old_labels) = after[name], before[name]
        if weights[name].shape != shape:
            new[name] = _placed(weights[name], name, shape, labels, old_labels)
    return new


def _placed(old: Array, name: str, shape: Sequence[int], labels: list[Labels], old_labels: list[Labels]) -> Array:
    """A tensor with its old channels in their new positions; new ones are zero, or the identity for normalisation."""
    ones = name.endswith(".running_var") or (name.endswith(".weight") and len(shape) == 1)
    new = np.full(shape, float(ones), dtype=old.dtype)
    axes = [
        _positions(now, then) if now else np.arange(size)
        for now, then, size in zip([*labels, *[()] * 2], [*old_labels, *[()] * 2], old.shape, strict=False)
    ]
    new[np.ix_(*axes)] = old
    return new


def _positions(labels: Labels, old: Labels) -> NDArray[np.int_]:
    """The new position of each old channel."""
    at = {label: position for position, label in enumerate(labels)}
    return np.array([at[label] for label in old], dtype=int)


def _marked(child: Topology, key: str) -> Topology:
    """The child with a convolution before the new edge, which gives the new channels labels of their own."""
    draft = Draft.of(child)
    edge, mark = draft.edge(key), f"{key}.mark"
    channels = child.shapes[edge["src"]][0]
    draft.vertices[mark] = "add"
    draft.add(mark, edge["src"], mark, {"op": "conv", "params": {"c": channels, "k": 1, "order": "conv"}})
    edge["src"] = mark
    return draft.topology()


def _key(parent: Topology, fields: Fields) -> str:
    return new_key(parent, f"{fields['src']}>{fields['dst']}", "concat")


@edit("concat", _concat_transfer, preserves=True)
def _concat(parent: Topology, fields: Fields) -> Topology:
    """``{edit: concat, src, dst}``: concatenate the channels of a vertex to a later one, for all edges that read it."""
    src, dst = ends_of(parent, fields)
    before, after = parent.shapes[src], parent.shapes[dst]
    if len(before) != 3 or len(after) != 3 or dst == parent.flat.output:
        raise SpecError("dst", dst, "a vertex with maps, and a src with maps")
    key, stride = _key(parent, fields), -(-before[1] // after[1])
    draft = Draft.of(parent)
    for edge in draft.edges:
        edge["src"] = key if edge["src"] == dst else edge["src"]
    draft.vertices[key] = "concat"
    draft.add(f"{key}=", dst, key, {"op": "identity"})
    pool = {"op": "avg", "params": {"k": 2 * stride - 1, "s": stride}}
    draft.add(key, src, key, pool if stride > 1 else {"op": "identity"})
    child = draft.topology()
    for edge in child.flat.live.edges:
        whole = any(isinstance(layer, layers.Mixed | layers.Module) for layer in edge.layers)
        if whole and child.shapes[edge.src] != parent.shapes[edge.src if edge.src != key else dst]:
            raise SpecError("dst", dst, f"a vertex that {edge.key} does not read, because its weights cannot grow")
    return child
