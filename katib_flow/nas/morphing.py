"""Random morphisms of a network: a new layer, a wider layer, or a skip connection that adds or concatenates."""

from collections.abc import Sequence

import numpy as np

from katib_flow.models.edits import Fields, shape_after
from katib_flow.models.topology import Topology
from katib_flow.nas.growth import convolutions, one_of

KINDS = ("deepen", "widen", "skip", "concat")


def morphism(
    network: Topology, rng: np.random.Generator, *, kernels: Sequence[int] = (3,), factors: Sequence[int] = (2,)
) -> list[Fields]:
    """The edits of a random morphism, its kind drawn uniformly; they may be empty, or impossible for this network.

    Args:
        kernels: possible kernel sizes of a new layer, drawn uniformly.
        factors: possible factors of widening, drawn uniformly.
    """
    kind = one_of(KINDS, rng)
    if kind in ("skip", "concat"):
        vertices = list(network.flat.live.vertices)
        src, dst = sorted(rng.choice(len(vertices), 2, replace=False))
        return [{"edit": kind, "src": vertices[src], "dst": vertices[dst]}]
    layers = convolutions(network)
    if not layers:
        return []
    edge = one_of(layers, rng)
    if kind == "deepen":
        return [{"edit": kind, "edge": edge.key, "k": one_of(kernels, rng)}]
    wider = one_of(factors, rng) * shape_after(network, edge)[0]
    return [{"edit": kind, "edge": edge.key, "to": wider, "seed": int(rng.integers(1 << 31))}]
