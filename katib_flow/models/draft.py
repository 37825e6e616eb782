"""A topology being edited: one graph, cells unrolled, as plain data that can be changed."""

import copy
from dataclasses import dataclass
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.models.layers import flow
from katib_flow.models.operations import operations
from katib_flow.models.topology import Topology


@dataclass
class Draft:
    """Vertices and edges of what lies between input and output; edges keep their keys, and so the names of weights."""

    frame: dict[str, Any]
    input: str
    output: str
    vertices: dict[str, str]
    edges: list[dict[str, Any]]

    @classmethod
    def of(cls, topology: Topology) -> "Draft":
        flat, shapes = topology.flat.live, topology.shapes
        frame = topology.model_dump(mode="json", by_alias=True, exclude={"graphs", "root", "edits"})
        edges: list[dict[str, Any]] = []
        for each in flat.edges:
            made: dict[str, Any] = {"id": each.key, "src": each.src, "dst": each.dst, "op": each.op}
            made["params"] = copy.deepcopy(dict(each.params))
            if each.weights != each.key:
                made["weights"] = each.weights
            if each.dead:
                shape = list(flow(each.layers, shapes[each.src])[-1])
                made |= {"src": flat.input, "op": "zeros", "params": {"shape": shape}}
            edges.append(made)
        vertices = {name: merge for name, merge in flat.vertices.items() if name != flat.input}
        return cls(frame, flat.input, flat.output, vertices, edges)

    def topology(self) -> Topology:
        """What it describes, without what no edge leads to.

        Raises:
            InvalidSpec: that is no sound network.
        """
        self._drop_unreached()
        graph = {"inputs": [self.input], "output": self.output, "vertices": self.vertices, "edges": self.edges}
        return Topology.parse({**self.frame, "root": "net", "graphs": {"net": graph}})

    def edge(self, key: str) -> dict[str, Any]:
        return next(each for each in self.edges if each["id"] == key)

    def add(self, key: str, src: str, dst: str, op: dict[str, Any]) -> None:
        self.edges.append({"id": key, "src": src, "dst": dst, "params": {}, **op})

    def after(self, key: str, new: str, op: dict[str, Any]) -> None:
        """Put an operation behind an edge, with a vertex between them."""
        edge = self.edge(key)
        self.vertices[new] = "add"
        behind = {"id": new, "src": new, "dst": edge["dst"], "params": {}, **op}
        edge["dst"] = new
        self.edges.insert(self.edges.index(edge) + 1, behind)  # in the same place, where the order matters

    def beside(self, key: str, new: str) -> None:
        """Put a second edge like one beside it; the two are summed before they go on."""
        self.after(key, f"{new}=", {"op": "identity"})
        edge = self.edge(key)
        twin = {**copy.deepcopy(edge), "id": new}
        twin.pop("weights", None)
        self.edges.insert(self.edges.index(edge) + 1, twin)

    def set(self, key: str, **params: Any) -> None:
        """Change parameters of an edge; ``conv3`` becomes ``conv`` where it is the kernel."""
        edge = self.edge(key)
        known = operations.get(edge["op"], "op")
        if set(params) & known.fixed.keys():
            edge["op"], edge["params"] = known.base, {**known.fixed, **edge["params"]}
            known = operations.get(edge["op"], "op")
        if unknown := set(params) - set(known.parameters):
            raise SpecError("edge", key, f"an operation with a parameter {unknown.pop()}")
        edge["params"].update(params)

    def remove(self, key: str) -> None:
        self.edges = [each for each in self.edges if each["id"] != key]

    def _drop_unreached(self) -> None:
        while gone := set(self.vertices) - {each["dst"] for each in self.edges} - {self.output}:
            self.vertices = {name: merge for name, merge in self.vertices.items() if name not in gone}
            self.edges = [each for each in self.edges if each["src"] not in gone]
