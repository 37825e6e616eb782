"""A topology being edited: a single graph, its cells unrolled, as mutable plain data."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.models.layers import flow
from katib_flow.models.operations import operations
from katib_flow.models.topology import Topology
from katib_flow.wording import did_you_mean


@dataclass
class Draft:
    """The vertices and edges that lie between input and output; edges keep their keys, and so the names of weights.

    Attributes:
        frame: all fields of the topology but its graphs, root and edits.
        vertices: name of each vertex -> its merge function.
    """

    frame: dict[str, Any]
    input: str
    output: str
    vertices: dict[str, str]
    edges: list[dict[str, Any]]

    @classmethod
    def of(cls, topology: Topology) -> "Draft":
        """A draft of a topology; parts that do not lie between its input and output are left out."""
        flat, shapes = topology.flat.live, topology.shapes
        frame = topology.model_dump(mode="json", by_alias=True, exclude={"graphs", "root", "edits"})
        edges: list[dict[str, Any]] = []
        for edge in flat.edges:
            copied: dict[str, Any] = {"id": edge.key, "src": edge.src, "dst": edge.dst, "op": edge.op}
            copied["params"] = copy.deepcopy(dict(edge.params))
            if edge.weights != edge.key:
                copied["weights"] = edge.weights
            if edge.dead:
                shape = list(flow(edge.layers, shapes[edge.src])[-1])
                copied |= {"src": flat.input, "op": "zeros", "params": {"shape": shape}}
            edges.append(copied)
        vertices = {name: merge for name, merge in flat.vertices.items() if name != flat.input}
        return cls(frame, flat.input, flat.output, vertices, edges)

    def topology(self) -> Topology:
        """The topology of the draft; vertices that no edge leads to are dropped, with the edges that leave them.

        Raises:
            InvalidSpec: the draft is not a sound network.
        """
        self._drop_unreached()
        graph = {"inputs": [self.input], "output": self.output, "vertices": self.vertices, "edges": self.edges}
        return Topology.parse({**self.frame, "root": "net", "graphs": {"net": graph}})

    def edge(self, key: str) -> dict[str, Any]:
        """The edge of a key, to be changed in place.

        Raises:
            SpecError: there is no such edge.
        """
        edges = {edge["id"]: edge for edge in self.edges}
        if key not in edges:
            raise unknown_edge(key, list(edges))
        return edges[key]

    def add(self, key: str, src: str, dst: str, op: dict[str, Any]) -> None:
        """Add an edge after all others.

        Args:
            op: ``{"op": name, "params": {...}}``.
        """
        self.edges.append({"id": key, "src": src, "dst": dst, "params": {}, **op})

    def after(self, key: str, new: str, op: dict[str, Any]) -> None:
        """Insert a vertex and an edge with an operation after an edge."""
        edge = self.edge(key)
        self.vertices[new] = "add"
        behind = {"id": new, "src": new, "dst": edge["dst"], "params": {}, **op}
        edge["dst"] = new
        self.edges.insert(self.edges.index(edge) + 1, behind)  # next to it, as the order of edges may matter

    def beside(self, key: str, new: str) -> None:
        """Add a copy of an edge, with weights of its own, in parallel to it; their outputs are summed."""
        self.after(key, f"{new}=", {"op": "identity"})
        edge = self.edge(key)
        twin = {**copy.deepcopy(edge), "id": new}
        twin.pop("weights", None)
        self.edges.insert(self.edges.index(edge) + 1, twin)

    def set(self, key: str, **params: Any) -> None:
        """Change parameters of an edge; to change one that its operation fixes, ``conv3`` becomes ``conv``.

        Raises:
            SpecError: the operation of the edge has no such parameter.
        """
        edge = self.edge(key)
        known = operations.get(edge["op"], "op")
        if set(params) & known.fixed.keys():
            edge["op"], edge["params"] = known.base, {**known.fixed, **edge["params"]}
            known = operations.get(edge["op"], "op")
        if unknown := set(params) - set(known.parameters):
            raise SpecError("edge", key, f"an edge whose operation has a parameter {unknown.pop()}")
        edge["params"].update(params)

    def remove(self, key: str) -> None:
        """Remove an edge, if there is one of this key."""
        self.edges = [edge for edge in self.edges if edge["id"] != key]

    def _drop_unreached(self) -> None:
        while gone := set(self.vertices) - {edge["dst"] for edge in self.edges} - {self.output}:
            self.vertices = {name: merge for name, merge in self.vertices.items() if name not in gone}
            self.edges = [edge for edge in self.edges if edge["src"] not in gone]


def unknown_edge(key: str, known: Sequence[str]) -> SpecError:
    """The mistake of a key that is not among the keys of a network's edges."""
    return SpecError("edge", key, f"an edge of the network: {', '.join(known)}{did_you_mean(key, known)}")
