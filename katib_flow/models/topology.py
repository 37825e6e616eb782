"""A neural network as plain data: named graphs of vertices and edges, versioned, frozen, checked.

A graph is G = {V, E} (Zhou et al., OpML 2019, section 3.2). An edge (src, dst) takes the value of ``src`` through its
operation to ``dst``; a vertex merges what comes to it: V_dst = g({o_k(V_src)}). The paper writes the formula the other
way round from its own definition of an edge; this is the reading used everywhere here. An edge's operation is one of
the library, or ``@name``, another graph: so cells, motifs and whole networks are the same thing.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.models.canonical import digest
from katib_flow.models.flat import Counts, Flat, flatten
from katib_flow.models.layers import Shape
from katib_flow.spec.model import Count, Model, PlainData, Text, unwritable
from katib_flow.spec.problems import NOTHING, problem, spec_errors

SCHEMA = "topology/1"


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Edge(Model):
    """An operation between vertices.

    Attributes:
        src: the vertex it reads; several where the operation is a graph with several inputs, in their order.
        op: an operation of the library, or ``@graph``.
        params: of the operation; of a graph, what stands for ``$name`` in the parameters of its edges.
        weights: name of the weights, for edges that share theirs; each edge has its own where it is left out.
    """

    id: Text
    src: Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]
    dst: Text
    op: Text
    params: PlainData = {}
    weights: Text | None = None


class Graph(Model):
    """Vertices and edges.

    Attributes:
        vertices: name of each vertex, the inputs left out -> its merge function.
        loose: vertices that are joined to the output where no edge reads them, in this order.
    """

    inputs: tuple[Text, ...] = ("x",)
    output: Text = "y"
    vertices: dict[str, Text]
    edges: tuple[Edge, ...]
    loose: tuple[Text, ...] = ()


class Input(Model):
    """What a network reads: an image of a shape (channel, height, width), or a sequence of tokens, so many kinds."""

    shape: tuple[Count, Count, Count] | None = None
    tokens: Count | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.shape is None) == (self.tokens is None):
            need = "either shape: [channels, height, width], of images, or tokens: how many kinds a sequence is made of"
            raise problem("", NOTHING if self.shape is None else "both shape and tokens", need)
        return self

    @property
    def size(self) -> Shape:
        """The shape of what comes in at once: an image, or a token as a one-hot vector."""
        return self.shape or (self.tokens or 0,)


class Output(Model):
    classes: Count


class Topology(Model):
    """A neural network as data. Made with ``parse``; equal hashes mean equal networks.

    Attributes:
        input, output: shape of an image (channel, height, width) or number of tokens, and the number of classes.
        graphs: by name; ``root`` is the network.
        weights: what a trial that has a parent starts from: ``inherit`` its weights, by the edits; its tensors of the
            same name and ``shape``; those of ``edges`` that have the same operation on the same vertex; or ``fresh``
            ones.
        edits: what was done to the parent's topology to come here (``morphisms``); lineage, not part of the hash.
        meta: notes, plain JSON; not part of the hash.
    """

    schema_: Literal["topology/1"] = Field(SCHEMA, alias="schema")
    name: str = ""
    input: Input
    output: Output
    root: Text = "net"
    graphs: dict[str, Graph]
    weights: Literal["inherit", "shape", "edges", "fresh"] = "inherit"
    edits: tuple[PlainData, ...] = ()
    meta: PlainData = {}

    @classmethod
    def parse(cls, data: Any, source: str = "topology") -> Self:
        """A topology of plain data, checked: acyclic, connected, known operations, shapes that agree.

        Raises:
            InvalidSpec: with every mistake found, by the graph and the vertex or edge.
        """
        if strange := unwritable(data):
            raise InvalidSpec(source, strange)
        try:
            topology = cls.model_validate(data)
        except ValidationError as error:
            raise InvalidSpec(source, spec_errors(error, cls, data)) from None
        try:
            topology.flat.check(topology.input.size, (topology.output.classes,))
        except SpecError as wrong:
            raise InvalidSpec(source, [wrong]) from None
        return topology

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that parses to an equal topology."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for graph in data["graphs"].values():
            for edge in graph["edges"]:
                edge["src"] = edge["src"][0] if len(edge["src"]) == 1 else edge["src"]
        return {"schema": SCHEMA, **data}

    @cached_property
    def flat(self) -> Flat:
        """The network as one graph, cells unrolled.

        Raises:
            SpecError: graphs hold each other, or an edge names what is not there.
        """
        return flatten(self.graphs, self.root)

    @cached_property
    def hash(self) -> str:
        """32 hex digits, equal for networks that are one up to names: see ``canonical``."""
        return digest(self.flat, self.shapes, (self.input.size, self.output.classes))

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each vertex of ``flat``."""
        return self.flat.shapes(self.input.size)

    @cached_property
    def counts(self) -> Counts:
        """Parameters and multiply-accumulates of what lies between input and output."""
        return self.flat.counts(self.input.size)

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return self.counts.parameters

    @property
    def flops(self) -> int:
        """Floating-point operations for one image or token: two a multiply-accumulate."""
        return 2 * self.counts.macs

    def __hash__(self) -> int:
        return hash(self.hash)
