"""Merge functions: how a vertex combines the values of its incoming edges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from katib_flow.models.layers import Shape, ShapeError
from katib_flow.plugins import Registry


@dataclass(frozen=True)
class Merge:
    """How a vertex combines several values.

    Attributes:
        shape: from the shapes of the values to that of the result; raises ShapeError if they do not fit together.
        apply: from the tensors, in the order of the edges, to one tensor.
        ordered: whether the order of the values matters.
        weighted: whether each incoming edge has a trained weight; ``apply`` gets them as its second argument.
    """

    name: str
    shape: Callable[[Sequence[Shape]], Shape]
    apply: Callable[..., Any]
    ordered: bool = False
    weighted: bool = False


merges = Registry[Merge]("a merge function", "katib_flow.merges")
"""Every merge function, by name."""


def merge(
    name: str, shape: Callable[[Sequence[Shape]], Shape], *, ordered: bool = False, weighted: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of a list of tensors as a merge function; the other arguments are those of ``Merge``."""

    def register(apply: Callable[..., Any]) -> Callable[..., Any]:
        merges.add(Merge(name, shape, apply, ordered, weighted))
        return apply

    return register


def merge_of(name: str) -> Merge:
    """The merge function of a name, which must be registered."""
    function = merges.find(name)
    assert function is not None, name
    return function


def _equal(shapes: Sequence[Shape]) -> Shape:
    if len(set(shapes)) != 1:
        raise ShapeError(f"equal shapes, not {', '.join(map(str, dict.fromkeys(shapes)))}")
    return shapes[0]


def _stacked(shapes: Sequence[Shape]) -> Shape:
    if len({shape[1:] for shape in shapes}) != 1:
        raise ShapeError(f"maps of one size, not {', '.join(map(str, dict.fromkeys(shapes)))}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _padded(shapes: Sequence[Shape]) -> Shape:
    if any(len(shape) != 3 for shape in shapes):
        raise ShapeError("maps of (channel, height, width) to pad")
    return sum(shape[0] for shape in shapes), max(shape[1] for shape in shapes), max(shape[2] for shape in shapes)


@merge("add", _equal)
def _add(tensors: Sequence[Any]) -> Any:
    return sum(tensors[1:], tensors[0])


@merge("mean", _equal)
def _mean(tensors: Sequence[Any]) -> Any:
    return _add(tensors) / len(tensors)


@merge("mul", _equal)
def _product(tensors: Sequence[Any]) -> Any:
    out = tensors[0]
    for tensor in tensors[1:]:
        out = out * tensor
    return out


@merge("wsum", _equal, weighted=True)
def _weighted(tensors: Sequence[Any], weights: Any) -> Any:
    return _add([tensor * weight for tensor, weight in zip(tensors, weights, strict=True)])


@merge("concat", _stacked, ordered=True)
def _concat(tensors: Sequence[Any]) -> Any:
    import torch

    return torch.cat(list(tensors), dim=1)


@merge("pad-concat", _padded, ordered=True)
def _pad_concat(tensors: Sequence[Any]) -> Any:
    """Concatenate channels, with smaller maps zero-padded on all sides (Zoph and Le, ICLR 2017, section 3.3)."""
    import torch
    from torch.nn.functional import pad

    high, wide = max(tensor.shape[2] for tensor in tensors), max(tensor.shape[3] for tensor in tensors)

    def fitted(tensor: Any) -> Any:
        down, right = high - tensor.shape[2], wide - tensor.shape[3]
        return pad(tensor, (right // 2, right - right // 2, down // 2, down - down // 2))

    return torch.cat([fitted(tensor) for tensor in tensors], dim=1)


def _first(shapes: Sequence[Shape]) -> Shape:
    if any(len(shape) != 3 for shape in shapes):
        raise ShapeError("maps of (channel, height, width) to resize")
    return shapes[0]


@merge("primary", _first, ordered=True)
def _primary(tensors: Sequence[Any]) -> Any:
    """The sum in the shape of the first edge, the primary one, to which the others are resized.

    Maps are resized by nearest-neighbour interpolation; surplus channels are dropped, missing ones filled with zeros
    (Real et al., ICML 2017, section 3.2).
    """
    from torch.nn.functional import interpolate, pad

    _, channels, *size = tensors[0].shape

    def resized(tensor: Any) -> Any:
        fitting = tensor if list(tensor.shape[2:]) == size else interpolate(tensor, size=size, mode="nearest")
        return pad(fitting[:, :channels], (0, 0, 0, 0, 0, max(0, channels - tensor.shape[1])))

    return _add([tensors[0], *map(resized, tensors[1:])])
