"""A neural network as plain data: named graphs of vertices and edges, versioned, frozen and checked.

A graph is G = {V, E} (Zhou et al., OpML 2019, section 3.2). An edge (src, dst) applies its operation to the value of
``src`` and passes the result to ``dst``; a vertex merges the values that it receives: V_dst = g({o_k(V_src)}). The
paper's formula swaps src and dst compared with its own definition of an edge; this project uses the form above. The
operation of an edge is one of the library, or ``@name`` for another graph, so cells, motifs and whole networks are all
graphs.
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
        src: the vertex that it reads; for a graph with several inputs, one vertex per input, in order.
        op: an operation of the library, or ``@graph``.
        params: parameters of the operation; for a graph, the values of ``$name`` in the parameters of its edges.
        weights: name of the weights, for edges that share weights; without it, the edge has weights of its own.
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
        vertices: the merge function of each vertex except the inputs.
        loose: vertices that are joined to the output, in this order, if no edge reads them.
    """

    inputs: tuple[Text, ...] = ("x",)
    output: Text = "y"
    vertices: dict[str, Text]
    edges: tuple[Edge, ...]
    loose: tuple[Text, ...] = ()


class Input(Model):
    """What a network reads: images of shape (channel, height, width), or sequences of tokens.

    Attributes:
        tokens: number of different tokens.
    """

    shape: tuple[Count, Count, Count] | None = None
    tokens: Count | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.shape is None) == (self.tokens is None):
            need = "either shape: [channels, height, width], for images, or tokens: the number of different tokens"
            raise problem("", NOTHING if self.shape is None else "both shape and tokens", need)
        return self

    @property
    def size(self) -> Shape:
        """The shape of one input: an image, or a token as a one-hot vector."""
        return self.shape or (self.tokens or 0,)


class Output(Model):
    """What a network outputs: one logit per class."""

    classes: Count


class Topology(Model):
    """A neural network as data. Create it with ``parse``; equal hashes mean equal networks.

    Attributes:
        input, output: the shape of an image or the number of tokens; the number of classes.
        root: the name of the graph that is the network; ``graphs`` has all graphs by name.
        weights: what a trial with a parent starts from. ``inherit``: the parent's weights, transferred by the edits;
            ``shape``: its tensors of the same name and shape; ``edges``: those of edges with the same operation on the
            same vertex; ``fresh``: new weights.
        edits: the edits that turned the parent's topology into this one (``morphisms``); not part of the hash.
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
        """Create a topology from plain data, and check it: acyclic, connected, known operations, matching shapes.

        Args:
            source: what error messages call the data.

        Raises:
            InvalidSpec: the data is not a sound topology; it names the graph and the vertex or edge of each mistake.
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
        """The network as a single graph, with its cells unrolled.

        Raises:
            SpecError: graphs contain each other, or an edge has an unknown name.
        """
        return flatten(self.graphs, self.root)

    @cached_property
    def hash(self) -> str:
        """32 hex digits, equal for networks that differ only in names: see ``canonical``."""
        return digest(self.flat, self.shapes, (self.input.size, self.output.classes))

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each vertex of ``flat``."""
        return self.flat.shapes(self.input.size)

    @cached_property
    def counts(self) -> Counts:
        """Parameters and multiply-accumulates of the parts between input and output."""
        return self.flat.counts(self.input.size)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.counts.parameters

    @property
    def flops(self) -> int:
        """Floating-point operations for one image or token: two per multiply-accumulate."""
        return 2 * self.counts.macs

    def __hash__(self) -> int:
        return hash(self.hash)
