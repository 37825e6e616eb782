"""The layers that operations are made of: plain data with its arithmetic of shapes, parameters and multiplications.

No torch here: ``build`` makes a module of each. A shape is (channel, height, width), or (feature,) once it is flat; a
token is a vector, one-hot.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """A layer cannot take what comes to it; the message says what it needs."""


class Layer:
    """One step of an operation. The default keeps the shape, and has no parameters."""

    def shape(self, shape: Shape) -> Shape:
        """What comes out where ``shape`` goes in.

        Raises:
            ShapeError: the layer does not take it.
        """
        return shape

    def parameters(self, shape: Shape) -> int:
        """Number of trained numbers."""
        return 0

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates for one image; FLOPs are twice that. Normalisation and activations are not counted."""
        return 0


def _maps(shape: Shape, what: str) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ShapeError(f"maps of (channel, height, width) for {what}, not a shape {shape}")
    return shape[0], shape[1], shape[2]


def _windows(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    count = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if count < 1:
        raise ShapeError(f"a map larger than {size} for a window of {kernel} (dilation {dilation})")
    return count


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution padded so that stride 1 keeps the size of the map; ``channels`` None keeps their number."""

    channels: int | None = None
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    """Groups of channels; 0 is one a channel (depthwise)."""
    bias: bool = False
    expand: int = 1
    """Channels that come out for each that comes in, where ``channels`` is None."""

    @property
    def padding(self) -> tuple[int, int]:
        return self.dilation * (self.kernel[0] - 1) // 2, self.dilation * (self.kernel[1] - 1) // 2

    def out(self, shape: Shape) -> int:
        return self.channels or shape[0] * self.expand

    def group_count(self, shape: Shape) -> int:
        return self.groups or shape[0]

    def shape(self, shape: Shape) -> Shape:
        channels, *size = _maps(shape, "a convolution")
        groups = self.group_count(shape)
        if channels % groups or self.out(shape) % groups:
            raise ShapeError(f"channels that divide into {groups} groups, not {channels} to {self.out(shape)}")
        windows = (
            _windows(side, kernel, self.stride, self.dilation, padding)
            for side, kernel, padding in zip(size, self.kernel, self.padding, strict=True)
        )
        return (self.out(shape), *windows)

    def parameters(self, shape: Shape) -> int:
        weights = self.out(shape) * shape[0] // self.group_count(shape) * prod(self.kernel)
        return weights + (self.out(shape) if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        out = self.shape(shape)
        return prod(out) * shape[0] // self.group_count(shape) * prod(self.kernel)


@dataclass(frozen=True)
class BatchNorm(Layer):
    def parameters(self, shape: Shape) -> int:
        return 2 * shape[0]


@dataclass(frozen=True)
class Standardise(Layer):
    """Batch normalisation without a trained scale and shift."""


@dataclass(frozen=True)
class Scale(Layer):
    """Everything multiplied by one trained number, 1 at first."""

    def parameters(self, shape: Shape) -> int:
        return 1


@dataclass(frozen=True)
class Activation(Layer):
    """``relu``, ``relu6``, ``tanh``, ``sigmoid``, ``silu`` or ``identity``."""

    name: str = "relu"


@dataclass(frozen=True)
class Pool(Layer):
    """``max`` or ``avg`` over windows; what lies outside the map does not count."""

    kind: str
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        return (self.kernel - 1) // 2

    def shape(self, shape: Shape) -> Shape:
        channels, *size = _maps(shape, "pooling")
        return (channels, *(_windows(side, self.kernel, self.stride, 1, self.padding) for side in size))


@dataclass(frozen=True)
class GlobalMean(Layer):
    def shape(self, shape: Shape) -> Shape:
        return (_maps(shape, "a global mean")[0],)


@dataclass(frozen=True)
class Flatten(Layer):
    def shape(self, shape: Shape) -> Shape:
        return (prod(shape),)


@dataclass(frozen=True)
class Linear(Layer):
    features: int
    bias: bool = True

    def shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ShapeError(f"a vector for a dense layer, not a shape {shape}: flatten it first")
        return (self.features,)

    def parameters(self, shape: Shape) -> int:
        return shape[0] * self.features + (self.features if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        return shape[0] * self.features


@dataclass(frozen=True)
class Dropout(Layer):
    rate: float = 0.5


@dataclass(frozen=True)
class Delay(Layer):
    """What came in at the token before; zeros at the first token of a sequence. Edges may go round through it."""

    features: int

    def shape(self, shape: Shape) -> Shape:
        if shape != (self.features,):
            raise ShapeError(f"a vector of {self.features} features for a delay, not a shape {shape}")
        return shape


@dataclass(frozen=True)
class Zero(Layer):
    """Nothing: zeros, on a map made smaller by the stride, of a shape of their own, or of that which layers give."""

    stride: int = 1
    own: Shape | None = None
    like: tuple[Layer, ...] | None = None

    def shape(self, shape: Shape) -> Shape:
        if self.own is not None:
            return self.own
        if self.like is not None:
            return flow(self.like, shape)[-1]
        return shape if len(shape) == 1 else (shape[0], *(-(-side // self.stride) for side in shape[1:]))


@dataclass(frozen=True)
class SqueezeExcite(Layer):
    """Channels weighted by what the whole map holds (Hu et al., CVPR 2018)."""

    ratio: float = 0.25

    def hidden(self, shape: Shape) -> int:
        return max(1, int(shape[0] * self.ratio))

    def parameters(self, shape: Shape) -> int:
        return 2 * shape[0] * self.hidden(shape) + self.hidden(shape) + shape[0]

    def macs(self, shape: Shape) -> int:
        return 2 * shape[0] * self.hidden(shape)


@dataclass(frozen=True)
class Residual(Layer):
    """The input added to what some layers make of it."""

    layers: tuple[Layer, ...]

    def shape(self, shape: Shape) -> Shape:
        out = flow(self.layers, shape)[-1]
        if out != shape:
            raise ShapeError(f"the shape to be kept by a residual, not {out} of {shape}")
        return shape

    def parameters(self, shape: Shape) -> int:
        return total(self.layers, shape)[0]

    def macs(self, shape: Shape) -> int:
        return total(self.layers, shape)[1]


@dataclass(frozen=True)
class Mixed(Layer):
    """Several operations side by side, weighted by architecture weights of a group (a supernet's edge)."""

    names: tuple[str, ...]
    paths: tuple[tuple[Layer, ...], ...]
    group: str

    def shape(self, shape: Shape) -> Shape:
        shapes = {flow(path, shape)[-1] for path in self.paths}
        if len(shapes) != 1:
            raise ShapeError(f"operations to choose from that give one shape, not {sorted(shapes)}")
        return shapes.pop()

    def parameters(self, shape: Shape) -> int:
        return sum(total(path, shape)[0] for path in self.paths)

    def macs(self, shape: Shape) -> int:
        return sum(total(path, shape)[1] for path in self.paths)


@dataclass(frozen=True)
class Module(Layer):
    """A torch module of the user's own.

    Attributes:
        make: shape that goes in -> the module.
        out: shape that goes in -> shape that comes out; the same where it is left out.
        count: shape that goes in -> number of parameters.
    """

    make: Callable[[Shape], Any]
    out: Callable[[Shape], Shape] | None = None
    count: Callable[[Shape], int] | None = None

    def shape(self, shape: Shape) -> Shape:
        return self.out(shape) if self.out else shape

    def parameters(self, shape: Shape) -> int:
        if self.count:
            return self.count(shape)
        return sum(int(each.numel()) for each in self.make(shape).parameters())


def flow(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """The shape before each layer, and after the last.

    Raises:
        ShapeError: a layer does not take what comes to it.
    """
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.shape(shapes[-1]))
    return shapes


def total(layers: Sequence[Layer], shape: Shape) -> tuple[int, int]:
    """Parameters and multiply-accumulates of some layers, one after the other."""
    pairs = list(zip(layers, flow(layers, shape), strict=False))
    return sum(layer.parameters(at) for layer, at in pairs), sum(layer.macs(at) for layer, at in pairs)
