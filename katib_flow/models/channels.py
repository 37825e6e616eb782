"""Which channels of a network belong together, so that widening one of them must widen the others.

Every value of a network, at vertices and inside operations, is a vector of channels. Channels that meet in a sum are in
one class; so are the input and output channels of an operation that keeps channels apart (normalisation, pooling, a
depthwise convolution) and of a convolution that keeps their number. When a class is widened, it is widened everywhere
at once, each channel followed by its copies; concatenation needs no special case, because the same rule holds at every
vertex.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from katib_flow.models import layers
from katib_flow.models.flat import Flat, FlatEdge
from katib_flow.models.layers import Layer, Shape, flow

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A layer of an edge, with its channels.

    Attributes:
        path: prefix of the names of its tensors, below that of the edge: ``2.``, ``0.inner.3.``.
        before, after: the input and output channels.
        shape: the shape of the input.
    """

    path: str
    layer: Layer
    before: Vector
    after: Vector
    shape: Shape


@dataclass
class Channels:
    """The channels of a network, numbered and joined into classes.

    Attributes:
        steps: the layers of each edge, by its key.
        fixed: channels whose number cannot change: those of the input, logits, states and modules of the user's.
    """

    flat: Flat
    shapes: Mapping[str, Shape]
    steps: dict[str, list[Step]] = field(default_factory=dict[str, list[Step]])
    fixed: set[int] = field(default_factory=set[int])
    _parents: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        at: dict[str, Vector] = {self.flat.input: self._fresh(self.shapes[self.flat.input][0])}
        self.fixed |= set(at[self.flat.input])
        for vertex, merge in self.flat.vertices.items():
            if vertex == self.flat.input:
                continue
            arriving = [
                self._state(edge) if edge.delayed else self._edge(edge, at[edge.src])
                for edge in self.flat.incoming[vertex]
            ]
            if len(arriving) > 1 and merge in ("concat", "pad-concat"):
                at[vertex] = tuple(channel for vector in arriving for channel in vector)
            elif len({len(vector) for vector in arriving}) > 1:  # which channels meet depends on their number
                self.fixed |= {channel for vector in arriving for channel in vector}
                at[vertex] = arriving[0]
            else:
                for other in arriving[1:]:
                    self._join(arriving[0], other)
                at[vertex] = arriving[0] if arriving else self._fresh(self.shapes[vertex][0])
        self.fixed |= set(at[self.flat.output])
        self.fixed |= {channel for edge in self.flat.edges if edge.delayed for channel in at[edge.src]}
        self.at = at

    def classes(self, vector: Iterable[int]) -> Vector:
        """The class of each channel; channels that belong together have the same class."""
        return tuple(self._root(channel) for channel in vector)

    @property
    def fixed_classes(self) -> set[int]:
        """The classes of the fixed channels."""
        return set(self.classes(self.fixed))

    def _state(self, edge: FlatEdge) -> Vector:
        self.steps[edge.key] = []
        state = self._fresh(flow(edge.layers, self.shapes[edge.src])[-1][0])
        self.fixed |= set(state)
        return state

    def _edge(self, edge: FlatEdge, vector: Vector) -> Vector:
        self.steps[edge.key] = []
        if edge.dead:  # zeros belong to no class
            return self._fresh(flow(edge.layers, self.shapes[edge.src])[-1][0])
        named: dict[int, Vector] = {}
        return self._through(edge.layers, vector, self.shapes[edge.src], "", self.steps[edge.key], named)

    def _through(
        self,
        sequence: Sequence[Layer],
        vector: Vector,
        shape: Shape,
        path: str,
        steps: list[Step],
        named: dict[int, Vector],
    ) -> Vector:
        for number, layer in enumerate(sequence):
            here = f"{path}{number}."
            if isinstance(layer, layers.Residual):
                out = self._through(layer.layers, vector, shape, f"{here}inner.", steps, named)
                self._join(vector, out)
            else:
                out = self._layer(layer, vector, shape, named)
                steps.append(Step(here, layer, vector, out, shape))
            vector, shape = out, layer.shape(shape)
        return vector

    def _layer(self, layer: Layer, vector: Vector, shape: Shape, named: dict[int, Vector]) -> Vector:
        match layer:
            case layers.Conv():
                return self._conv(layer, vector, shape, named)
            case layers.Linear():
                return self._of_width(layer.features, named)
            case layers.Flatten():
                if layer.shape(shape) == shape[:1]:
                    return vector
                self.fixed |= set(vector)  # flattened, a channel is several features: a copy would come between them
                return self._fresh(layer.shape(shape)[0])
            case layers.Mixed() | layers.Module():
                self.fixed |= set(vector)
                out = self._fresh(layer.shape(shape)[0])
                self.fixed |= set(out)
                return out
            case _:
                return vector

    def _conv(self, layer: layers.Conv, vector: Vector, shape: Shape, named: dict[int, Vector]) -> Vector:
        if layer.groups == 0 and layer.out(shape) == shape[0]:
            return vector
        if layer.group_count(shape) != 1:
            self.fixed |= set(vector)
            out = self._fresh(layer.out(shape))
            self.fixed |= set(out)
            return out
        if layer.channels is not None:
            return self._of_width(layer.channels, named)
        out = self._fresh(layer.out(shape))
        self._join(tuple(channel for channel in vector for _ in range(layer.expand)), out)
        return out

    def _of_width(self, width: int, named: dict[int, Vector]) -> Vector:
        """New channels; layers of an edge that have the same width share them, as one parameter may set both."""
        fresh = self._fresh(width)
        if width in named:
            self._join(named[width], fresh)
        named.setdefault(width, fresh)
        return fresh

    def _fresh(self, count: int) -> Vector:
        start = len(self._parents)
        self._parents += range(start, start + count)
        return tuple(range(start, start + count))

    def _join(self, one: Vector, other: Vector) -> None:
        assert len(one) == len(other), "shapes were checked"
        for left, right in zip(one, other, strict=True):
            self._parents[self._root(left)] = self._root(right)

    def _root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel


def prefix(edge: FlatEdge) -> str:
    """The prefix of the names of an edge's tensors."""
    return f"operations.{escaped(edge.weights)}."


def escaped(name: str) -> str:
    """A key without dots, as torch's containers require."""
    return name.replace(".", "·")


class Tensor(NamedTuple):
    """A tensor of a layer.

    Attributes:
        name: its name below that of the edge.
        rows: whether its first axis runs over the output channels.
        columns: whether its second axis runs over the input channels.
    """

    name: str
    shape: tuple[int, ...]
    rows: bool = True
    columns: bool = False


def tensors(step: Step) -> Iterator[Tensor]:
    """The tensors of a layer, parameters and buffers, under torch's names."""
    layer, out, into = step.layer, len(step.after), len(step.before)
    match layer:
        case layers.Conv():
            group = layer.group_count(step.shape)
            yield Tensor(f"{step.path}weight", (out, into // group, *layer.kernel), columns=group == 1)
        case layers.Linear():
            yield Tensor(f"{step.path}weight", (out, into), columns=True)
        case layers.BatchNorm():
            yield from (Tensor(step.path + name, (out,)) for name in ("weight", "bias", "running_mean", "running_var"))
            yield Tensor(f"{step.path}num_batches_tracked", (), rows=False)
        case layers.Standardise():
            yield from (Tensor(step.path + name, (out,)) for name in ("running_mean", "running_var"))
            yield Tensor(f"{step.path}num_batches_tracked", (), rows=False)
        case layers.Scale():
            yield Tensor(f"{step.path}weight", (), rows=False)
        case layers.SqueezeExcite():
            hidden = layer.hidden(step.shape)
            yield Tensor(f"{step.path}squeeze.weight", (hidden, into), rows=False, columns=True)
            yield Tensor(f"{step.path}squeeze.bias", (hidden,), rows=False)
            yield Tensor(f"{step.path}excite.weight", (out, hidden))
            yield Tensor(f"{step.path}excite.bias", (out,))
        case _:
            pass
    if isinstance(layer, layers.Conv | layers.Linear) and layer.bias:
        yield Tensor(f"{step.path}bias", (out,))
