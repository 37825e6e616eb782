"""The layers that operations consist of: plain data, with their output shapes, parameters and multiply-accumulates.

No torch here: ``build`` makes the modules. A shape is (channel, height, width), or (feature,) after flattening, without
the batch; a token is a one-hot vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """A layer does not accept the shape of its input; the message is what it needs."""


class Layer:
    """One step of an operation. By default it keeps the shape and has no parameters."""

    def shape(self, shape: Shape) -> Shape:
        """The shape of the output, for the shape of the input.

        Raises:
            ShapeError: the layer does not accept the shape.
        """
        return shape

    def parameters(self, shape: Shape) -> int:
        """Number of trained numbers, for the shape of the input."""
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
    """A convolution, padded so that stride 1 keeps the size of the map."""

    channels: int | None = None
    """Output channels; None for ``expand`` times the input channels."""
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    """Groups of channels; 0 for one per channel (depthwise)."""
    bias: bool = False
    expand: int = 1
    """Output channels per input channel, if ``channels`` is None."""

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros on each side of the map: above and below, left and right."""
        return self.dilation * (self.kernel[0] - 1) // 2, self.dilation * (self.kernel[1] - 1) // 2

    def out(self, shape: Shape) -> int:
        """Number of output channels."""
        return self.channels or shape[0] * self.expand

    def group_count(self, shape: Shape) -> int:
        """Number of groups; as many as input channels for a depthwise convolution."""
        return self.groups or shape[0]

    def shape(self, shape: Shape) -> Shape:
        """The shape of the output; ``groups`` must divide the input and the output channels."""
        channels, *size = _maps(shape, "a convolution")
        groups = self.group_count(shape)
        if channels % groups or self.out(shape) % groups:
            raise ShapeError(f"channels divisible into {groups} groups, not {channels} in and {self.out(shape)} out")
        windows = (
            _windows(side, kernel, self.stride, self.dilation, padding)
            for side, kernel, padding in zip(size, self.kernel, self.padding, strict=True)
        )
        return (self.out(shape), *windows)

    def parameters(self, shape: Shape) -> int:
        weights = self.out(shape) * shape[0] // self.group_count(shape) * prod(self.kernel)
        return weights + (self.out(shape) if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        """One per weight of the kernel and position of the output map; the bias is not counted."""
        out = self.shape(shape)
        return prod(out) * shape[0] // self.group_count(shape) * prod(self.kernel)


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation with a trained scale and shift (Ioffe and Szegedy, ICML 2015)."""

    def parameters(self, shape: Shape) -> int:
        """A scale and a shift per channel; running statistics are not counted."""
        return 2 * shape[0]


@dataclass(frozen=True)
class Standardise(Layer):
    """Batch normalisation without a trained scale and shift."""


@dataclass(frozen=True)
class Scale(Layer):
    """The input times one trained number, initially 1."""

    def parameters(self, shape: Shape) -> int:
        return 1


@dataclass(frozen=True)
class Activation(Layer):
    """``relu``, ``relu6``, ``tanh``, ``sigmoid``, ``silu`` or ``identity``."""

    name: str = "relu"


@dataclass(frozen=True)
class Pool(Layer):
    """The maximum or mean over windows, without what lies outside the map."""

    kind: str
    """``max`` or ``avg``."""
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        """Rows and columns on each side of the map that windows may reach into."""
        return (self.kernel - 1) // 2

    def shape(self, shape: Shape) -> Shape:
        """The same channels, with a map of one value per window."""
        channels, *size = _maps(shape, "pooling")
        return (channels, *(_windows(side, self.kernel, self.stride, 1, self.padding) for side in size))


@dataclass(frozen=True)
class GlobalMean(Layer):
    """The mean of each channel over the whole map: (channel, height, width) to (channel,)."""

    def shape(self, shape: Shape) -> Shape:
        return (_maps(shape, "a global mean")[0],)


@dataclass(frozen=True)
class Flatten(Layer):
    """All values as one vector, channel by channel."""

    def shape(self, shape: Shape) -> Shape:
        return (prod(shape),)


@dataclass(frozen=True)
class Linear(Layer):
    """A dense layer without an activation, for vectors only."""

    features: int
    bias: bool = True

    def shape(self, shape: Shape) -> Shape:
        """(features,), for a vector; maps must be flattened first."""
        if len(shape) != 1:
            raise ShapeError(f"a vector for a dense layer, not a shape {shape}; flatten it first")
        return (self.features,)

    def parameters(self, shape: Shape) -> int:
        return shape[0] * self.features + (self.features if self.bias else 0)

    def macs(self, shape: Shape) -> int:
        return shape[0] * self.features


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout of single values."""

    rate: float = 0.5
    """The probability of dropping a value, in [0, 1)."""


@dataclass(frozen=True)
class Delay(Layer):
    """The input at the previous token; zeros at the first token of a sequence. It may close a cycle of edges."""

    features: int

    def shape(self, shape: Shape) -> Shape:
        if shape != (self.features,):
            raise ShapeError(f"a vector of {self.features} features for a delay, not a shape {shape}")
        return shape


@dataclass(frozen=True)
class Zero(Layer):
    """Zeros in the shape of the input, with its map reduced by ``stride``."""

    stride: int = 1
    own: Shape | None = None
    """A shape of their own, whatever the input."""
    like: tuple[Layer, ...] | None = None
    """Layers, for zeros in the shape of their output."""

    def shape(self, shape: Shape) -> Shape:
        """``own``, or the output of ``like``, or else the input with the sides of its map divided by ``stride``."""
        if self.own is not None:
            return self.own
        if self.like is not None:
            return flow(self.like, shape)[-1]
        return shape if len(shape) == 1 else (shape[0], *(-(-side // self.stride) for side in shape[1:]))


@dataclass(frozen=True)
class SqueezeExcite(Layer):
    """Channels weighted by a small network that reads the mean of each channel (Hu et al., CVPR 2018)."""

    ratio: float = 0.25
    """Hidden units per channel."""

    def hidden(self, shape: Shape) -> int:
        """Number of hidden units, at least 1."""
        return max(1, int(shape[0] * self.ratio))

    def parameters(self, shape: Shape) -> int:
        """Weights and biases of two dense layers, from channels to hidden units and back."""
        return 2 * shape[0] * self.hidden(shape) + self.hidden(shape) + shape[0]

    def macs(self, shape: Shape) -> int:
        """Those of the two dense layers; taking the mean and scaling the map are not counted."""
        return 2 * shape[0] * self.hidden(shape)


@dataclass(frozen=True)
class Residual(Layer):
    """The input plus the output of some layers, which must keep its shape."""

    layers: tuple[Layer, ...]

    def shape(self, shape: Shape) -> Shape:
        """The shape of the input, which the layers must keep."""
        out = flow(self.layers, shape)[-1]
        if out != shape:
            raise ShapeError(f"layers that keep the shape {shape} of a residual, not ones that give {out}")
        return shape

    def parameters(self, shape: Shape) -> int:
        return total(self.layers, shape)[0]

    def macs(self, shape: Shape) -> int:
        return total(self.layers, shape)[1]


@dataclass(frozen=True)
class Mixed(Layer):
    """Several operations in parallel, weighted by the architecture weights of a group: an edge of a supernet."""

    names: tuple[str, ...]
    paths: tuple[tuple[Layer, ...], ...]
    group: str

    def shape(self, shape: Shape) -> Shape:
        """The shape of the output, on which all choices must agree."""
        shapes = {flow(path, shape)[-1] for path in self.paths}
        if len(shapes) != 1:
            raise ShapeError(f"operations to choose from that all give one shape, not {sorted(shapes)}")
        return shapes.pop()

    def parameters(self, shape: Shape) -> int:
        """Those of all choices together, without the architecture weights."""
        return sum(total(path, shape)[0] for path in self.paths)

    def macs(self, shape: Shape) -> int:
        """Those of all choices together."""
        return sum(total(path, shape)[1] for path in self.paths)


@dataclass(frozen=True)
class Module(Layer):
    """A torch module of the user's own.

    Attributes:
        make: from the shape of the input to the module.
        out: from the shape of the input to that of the output; without it, they are the same.
        count: from the shape of the input to the number of parameters; without it, a module is made to count them.
    """

    make: Callable[[Shape], Any]
    out: Callable[[Shape], Shape] | None = None
    count: Callable[[Shape], int] | None = None

    def shape(self, shape: Shape) -> Shape:
        return self.out(shape) if self.out else shape

    def parameters(self, shape: Shape) -> int:
        """What ``count`` returns; without it, the parameters of a module made for the purpose."""
        if self.count:
            return self.count(shape)
        return sum(int(parameter.numel()) for parameter in self.make(shape).parameters())


def flow(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """The shape before each layer and after the last one.

    Raises:
        ShapeError: a layer does not accept the shape of its input.
    """
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.shape(shapes[-1]))
    return shapes


def total(layers: Sequence[Layer], shape: Shape) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a sequence of layers.

    Raises:
        ShapeError: a layer does not accept the shape of its input.
    """
    pairs = list(zip(layers, flow(layers, shape), strict=False))
    return sum(layer.parameters(at) for layer, at in pairs), sum(layer.macs(at) for layer, at in pairs)
