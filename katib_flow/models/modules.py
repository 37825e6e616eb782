"""A layer -> a torch module."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from katib_flow.models import layers
from katib_flow.models.layers import Layer, Shape, flow

ChoiceWeights = Tensor | Sequence[Tensor]
"""The weights of the choices of a group: shape (choice,), or one scalar per choice if only some have a gradient."""
_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}


def module_of(
    sequence: Sequence[Layer],
    shape: Shape,
    *,
    affine: bool = True,
    given: Callable[[Layer, Shape], nn.Module | None] | None = None,
) -> nn.Sequential:
    """Build the module of a sequence of layers.

    Args:
        shape: the shape of the input, without the batch.
        given: a module to use for a layer in place of its own, or None.
    """
    pairs = list(zip(sequence, flow(sequence, shape), strict=False))
    modules = [given(layer, at) if given else None for layer, at in pairs]
    own = (
        _module(layer, at, affine=affine) if module is None else module
        for module, (layer, at) in zip(modules, pairs, strict=True)
    )
    return nn.Sequential(*own)


def _module(layer: Layer, shape: Shape, *, affine: bool) -> nn.Module:
    match layer:
        case layers.Conv():
            groups, out = layer.group_count(shape), layer.out(shape)
            return nn.Conv2d(
                shape[0], out, layer.kernel, layer.stride, layer.padding, layer.dilation, groups, bias=layer.bias
            )
        case layers.BatchNorm() | layers.Standardise():
            normalise = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return normalise(shape[0], affine=affine and isinstance(layer, layers.BatchNorm))
        case layers.Scale():
            return _Scale()
        case layers.Activation():
            return _ACTIVATIONS[layer.name]()
        case layers.Pool():
            if layer.kind == "max":
                return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding)
            return nn.AvgPool2d(layer.kernel, layer.stride, layer.padding, count_include_pad=False)
        case layers.GlobalMean():
            return _GlobalMean()
        case layers.Flatten():
            return nn.Flatten()
        case layers.Linear():
            return nn.Linear(shape[0], layer.features, layer.bias)
        case layers.Dropout():
            return nn.Dropout(layer.rate)
        case layers.Zero():
            fixed = layer.own is not None or layer.like is not None
            return _Zeros(layer.shape(shape)) if fixed else _Zero(layer.stride)
        case layers.SqueezeExcite():
            return _SqueezeExcite(shape[0], layer.hidden(shape))
        case layers.Residual():
            return _Residual(module_of(layer.layers, shape, affine=affine))
        case layers.Mixed():
            return MixedOperation(layer, shape, affine=affine)
        case layers.Module():
            return layer.make(shape)
        case _:
            raise TypeError(f"no torch module is known for the layer {type(layer).__name__}; use layers.Module")


class MixedOperation(nn.Module):
    """The choices of an edge of a supernet, summed with ``weights``; their mean until weights are set."""

    def __init__(self, layer: layers.Mixed, shape: Shape, *, affine: bool) -> None:
        super().__init__()
        self.group, self.names = layer.group, layer.names
        self.paths = nn.ModuleList([module_of(path, shape, affine=affine) for path in layer.paths])
        self.weights: ChoiceWeights | None = None

    def forward(self, value: Tensor) -> Tensor:
        """Return the weighted sum of the outputs of the choices, each of shape (batch, ...)."""
        weights = self.weights
        if weights is None:
            return sum((path(value) for path in self.paths), start=value.new_zeros(())) / len(self.paths)
        blended: Tensor | None = None
        for weight, path in zip(weights, self.paths, strict=True):
            if weight.requires_grad or float(weight) != 0:
                term = weight * path(value)
                blended = term if blended is None else blended + term
        assert blended is not None, "all choices have weight 0"
        return blended


def first_weights(module: nn.Module) -> Iterator[nn.Conv2d | nn.Linear]:
    """The layers with weights that read a module's input: its first one, or the first one of each of its choices."""
    for child in module.children():
        if isinstance(child, nn.Conv2d | nn.Linear):
            yield child
        elif isinstance(child, MixedOperation):
            for path in child.paths:
                yield from first_weights(path)
        else:
            continue
        return


class _Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, value: Tensor) -> Tensor:
        return (value if self.stride == 1 else value[:, :, :: self.stride, :: self.stride]) * 0.0


class _Zeros(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, value: Tensor) -> Tensor:
        return value.new_zeros(value.shape[0], *self.shape)


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, value: Tensor) -> Tensor:
        return value * self.weight


class _GlobalMean(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value.mean(dim=(2, 3))


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, value: Tensor) -> Tensor:
        weights = self.excite(torch.relu(self.squeeze(value.mean(dim=(2, 3))))).sigmoid()
        return value * weights[:, :, None, None]


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, value: Tensor) -> Tensor:
        return value + self.inner(value)
