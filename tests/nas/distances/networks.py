"""Random networks to measure distances between, and one network under other names."""

from functools import lru_cache

import numpy as np

from katib_flow.errors import InvalidSpec
from katib_flow.models import Topology
from katib_flow.models.morphisms import modify
from katib_flow.models.presets import space_of
from katib_flow.spec.sections import Architecture


@lru_cache
def grown(count: int, seed: int = 0) -> tuple[Topology, ...]:
    """Networks grown from a chain by up to six edits of all kinds."""
    rng = np.random.default_rng(seed)
    start = space_of(Architecture(space="chain", settings={"layers": [3, 4, 4]})).initial
    made: list[Topology] = []
    while len(made) < count:
        topology = start
        for _ in range(int(rng.integers(1, 7))):
            edges, vertices = topology.flat.live.edges, list(topology.flat.live.vertices)
            edge = edges[int(rng.integers(len(edges)))]
            src, dst = (vertices[at] for at in sorted(rng.choice(len(vertices), 2, replace=False)))
            kernel = int(rng.choice([3, 5, 7]))
            edit = [
                {"edit": "deepen", "edge": edge.key, "k": kernel},
                {"edit": "widen", "edge": edge.key, "to": int(rng.integers(5, 9))},
                {"edit": "skip", "src": src, "dst": dst},
                {"edit": "concat", "src": src, "dst": dst},
                {"edit": "set", "edge": edge.key, "op": "sep", "params": {"c": edge.params.get("c"), "k": kernel}},
                {"edit": "remove", "edge": edge.key},
            ][int(rng.integers(6))]
            try:
                topology = modify(topology, [edit])
            except InvalidSpec:
                continue
        made.append(topology)
    return tuple(made)


def relabelled(topology: Topology, seed: int) -> Topology:
    """The same network: vertices have other names, and both they and the edges stand in another order."""
    rng = np.random.default_rng(seed)
    flat = topology.flat.live
    names = {vertex: f"n{number}" for number, vertex in enumerate(rng.permutation(list(flat.vertices)))}
    edges = [
        {"id": f"e{number}", "src": names[e.src], "dst": names[e.dst], "op": e.op, "params": dict(e.params)}
        for number, e in enumerate(flat.edges)
    ]
    inner = [vertex for vertex in flat.vertices if vertex != flat.input]
    graph = {
        "inputs": [names[flat.input]],
        "output": names[flat.output],
        "vertices": {names[vertex]: flat.vertices[vertex] for vertex in rng.permutation(inner)},
        "edges": [edges[at] for at in rng.permutation(len(edges))],
    }
    return Topology.parse({**topology.to_dict(), "root": "net", "edits": [], "graphs": {"net": graph}})
