"""The operation library: what may stand on an edge, each a few layers.

A new operation is a function of its parameters that gives layers; its defaults are those of the signature. ``c`` is
always the number of channels that come out (None: as many as came in), ``k`` the kernel, ``s`` the stride.
"""

import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    GlobalMean,
    Layer,
    Linear,
    Mixed,
    Pool,
    Residual,
    SqueezeExcite,
    Zero,
)
from katib_flow.spec.problems import did_you_mean

ENTRY_POINTS = "katib_flow.operations"
Make = Callable[..., Sequence[Layer]]


@dataclass(frozen=True)
class Operation:
    """A registered operation.

    Attributes:
        make: gives its layers for some parameters.
        base, fixed: the operation that it is with some parameters fixed; itself and none for most.
    """

    name: str
    make: Make
    parameters: tuple[str, ...]
    summary: str = ""
    base: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])


_operations: dict[str, Operation] = {}


def operation(name: str, **fixed: Any) -> Callable[[Make], Make]:
    """Register a function that gives layers as an operation.

    Args:
        name: what a topology calls it.
        fixed: values of its parameters that go with this name (``conv3`` is ``conv`` with ``k=3``).
    """

    def register(make: Make) -> Make:
        parameters = tuple(each for each in inspect.signature(make).parameters if each not in fixed)
        summary = (make.__doc__ or "").strip().split("\n")[0]
        base = next((each.name for each in _operations.values() if each.make is make), name) if fixed else name
        whole = make if not fixed else lambda **given: make(**given, **fixed)
        _operations[name] = Operation(name, whole, parameters, summary, base, fixed)
        _layers.cache_clear()
        return make

    return register


def operations() -> Mapping[str, Operation]:
    """Every operation, by name."""
    return dict(sorted(_operations.items()))


def layers_of(name: str, params: Mapping[str, Any], where: str = "op") -> tuple[Layer, ...]:
    """The layers of an operation; none where it is the identity.

    Raises:
        SpecError: there is no such operation, or it does not take the parameters.
    """
    try:
        return _layers(name, tuple(sorted(params.items())), where)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _make(name, params, where)


@lru_cache(maxsize=4096)
def _layers(name: str, params: tuple[tuple[str, Any], ...], where: str) -> tuple[Layer, ...]:
    return _make(name, dict(params), where)


@lru_cache(maxsize=1)
def _load_others() -> None:
    """Import what other packages name under the entry point; each registers what it has."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise KatibFlowError(f"entry point {entry.value} of {ENTRY_POINTS}: does not import: {what}") from error


def _make(name: str, params: Mapping[str, Any], where: str) -> tuple[Layer, ...]:
    if name not in _operations:
        _load_others()
    found = _operations.get(name)
    if found is None:
        raise SpecError(where, name, f"an operation: {', '.join(operations())}{did_you_mean(name, _operations)}")
    for each, value in params.items():
        if each not in found.parameters:
            known = f"a parameter of {name}: {', '.join(found.parameters) or 'it has none'}"
            raise SpecError(f"{where}.params.{each}", value, known + did_you_mean(each, found.parameters))
    try:
        return tuple(found.make(**params))
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}.params", dict(params), f"parameters that {name} takes ({error})") from error


def _whole(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1 << 16:
        raise ValueError(f"{name} is {value!r}, a whole number from {least} is needed")
    return value


def _conv(c: Any, k: Any, s: Any = 1, d: Any = 1, groups: int = 1, bias: bool = False) -> Conv:
    sides = k if isinstance(k, list | tuple) else (k, k)
    high, wide = (_whole("k", side) for side in sides)
    if not (high % 2 and wide % 2):
        raise ValueError(f"k is {k}, an odd kernel is needed: an even one has no middle")
    return Conv(None if c is None else _whole("c", c), (high, wide), _whole("s", s), _whole("d", d), groups, bias)


@operation("conv5", k=5)
@operation("conv3", k=3)
@operation("conv1", k=1)
@operation("conv")
def conv(c: Any = None, k: Any = 3, s: int = 1, d: int = 1, order: str = "relu-conv-bn") -> list[Layer]:
    """A convolution with normalisation and activation, in the order named by ``order``."""
    parts = {"conv": _conv(c, k, s, d, bias="bn" not in order.split("-")), "bn": BatchNorm(), "relu": Activation()}
    names = order.split("-")
    if names.count("conv") != 1 or not set(names) <= parts.keys():
        raise ValueError(f"order is {order!r}, one of relu-conv-bn, conv-bn-relu, conv-bn, conv-relu, conv is needed")
    return [parts[each] for each in names]


@operation("sep7", k=7)
@operation("sep5", k=5)
@operation("sep3", k=3)
@operation("sep")
def separable(c: Any = None, k: Any = 3, s: int = 1, repeat: int = 2) -> list[Layer]:
    """Depthwise, then pointwise convolution, twice (Zoph et al., CVPR 2018)."""
    layers: list[Layer] = []
    for turn in range(_whole("repeat", repeat)):
        channels, stride = (c, 1) if turn == repeat - 1 else (None, 1)
        layers += [Activation(), _conv(None, k, s if turn == 0 else stride, groups=0), _conv(channels, 1), BatchNorm()]
    return layers


@operation("dil5", k=5)
@operation("dil3", k=3)
@operation("dil")
def dilated(c: Any = None, k: Any = 3, s: int = 1) -> list[Layer]:
    """A dilated depthwise, then a pointwise convolution (Liu et al., ICLR 2019)."""
    return [Activation(), _conv(None, k, s, 2, groups=0), _conv(c, 1), BatchNorm()]


@operation("dw5", k=5)
@operation("dw3", k=3)
@operation("dw")
def depthwise(k: Any = 3, s: int = 1) -> list[Layer]:
    """A depthwise convolution."""
    return [Activation(), _conv(None, k, s, groups=0), BatchNorm()]


@operation("conv1x7-7x1", k=7)
@operation("conv1x3-3x1", k=3)
def crossed(c: Any = None, k: int = 7, s: int = 1) -> list[Layer]:
    """A 1 x k, then a k x 1 convolution."""
    return [Activation(), _conv(c, (1, k), s), BatchNorm(), Activation(), _conv(c, (k, 1)), BatchNorm()]


@operation("mbconv")
def inverted(c: Any = None, k: Any = 3, s: int = 1, e: int = 3, se: float = 0.0, skip: str = "none") -> list[Layer]:
    """An inverted residual: expand by e, depthwise, squeeze-excite by se, project (Sandler et al., CVPR 2018).

    ``skip`` is ``identity`` where the input is to be added; channels and stride must then keep the shape.
    """
    widened: list[Layer] = [Conv(None, (1, 1), expand=_whole("e", e)), BatchNorm(), Activation("relu6")]
    filtered: list[Layer] = [_conv(None, k, s, groups=0), BatchNorm(), Activation("relu6")]
    squeezed: list[Layer] = [SqueezeExcite(se)] if se else []
    kept = skip == "identity"
    if skip not in ("none", "identity"):
        raise ValueError(f"skip is {skip!r}, none or identity is needed")
    if not kept:
        return [*widened, *filtered, *squeezed, _conv(c, 1), BatchNorm()]
    narrowed = Conv(None if c is None else _whole("c", c), (1, 1))
    if c is None:
        raise ValueError("with skip: identity, c must be given: the number of channels that come in")
    return [Residual((*widened, *filtered, *squeezed, narrowed, BatchNorm()))]


@operation("avg3", k=3)
@operation("avg")
def average(k: int = 3, s: int = 1) -> list[Layer]:
    """The mean over a window."""
    return [Pool("avg", _whole("k", k), _whole("s", s))]


@operation("max5", k=5)
@operation("max3", k=3)
@operation("max")
def maximum(k: int = 3, s: int = 1) -> list[Layer]:
    """The maximum over a window."""
    return [Pool("max", _whole("k", k), _whole("s", s))]


@operation("identity")
@operation("skip")
def skip(c: Any = None, s: int = 1) -> Sequence[Layer]:
    """What comes in, as it is; with a stride or other channels, fitted by a 1 x 1 convolution."""
    if c is None and s == 1:
        return []
    return reduction(c, s)


@operation("none")
def none(s: int = 1) -> list[Layer]:
    """Zeros: as if the edge were not there."""
    return [Zero(_whole("s", s))]


@operation("zeros")
def zeros(shape: Any) -> list[Layer]:
    """Zeros of a shape, whatever comes in: what is left of an edge that a stack has room for."""
    return [Zero(own=tuple(_whole("shape", side) for side in shape))]


@operation("reduce", s=2)
def reduction(c: Any = None, s: int = 2) -> Sequence[Layer]:
    """A mean over s x s, then a 1 x 1 convolution."""
    pool: list[Layer] = [Pool("avg", s, s)] if s > 1 else []
    return [Activation(), *pool, _conv(c, 1), BatchNorm()]


@operation("fit")
def fit(c: int, s: int = 1) -> Sequence[Layer]:
    """Maps brought to ``c`` channels and a size: what a cell does with what comes from outside."""
    return reduction(c, s)


@operation("head")
def head(classes: int, norm: bool = True) -> list[Layer]:
    """Normalise, mean over the map, classify: what gives logits."""
    before: list[Layer] = [BatchNorm(), Activation()] if norm else []
    return [*before, GlobalMean(), Linear(_whole("classes", classes))]


@operation("dense")
def dense(features: int, act: str = "relu") -> Sequence[Layer]:
    """A dense layer and its activation."""
    return [Linear(_whole("features", features)), *activation(act)]


@operation("act")
def activation(name: str = "relu") -> list[Layer]:
    """An activation."""
    known = ("relu", "relu6", "tanh", "sigmoid", "silu", "identity")
    if name not in known:
        raise ValueError(f"the activation is {name!r}, one of {', '.join(known)} is needed")
    return [] if name == "identity" else [Activation(name)]


@operation("bn")
def norm() -> list[Layer]:
    """Batch normalisation."""
    return [BatchNorm()]


@operation("flatten")
def flatten() -> list[Layer]:
    """Maps as one vector."""
    return [Flatten()]


@operation("global-mean")
def global_mean() -> list[Layer]:
    """The mean of each map."""
    return [GlobalMean()]


@operation("dropout")
def dropout(rate: float = 0.5) -> list[Layer]:
    """Dropout."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate!r}, a number from 0 to below 1 is needed")
    return [Dropout(rate)]


@operation("mixed")
def mixed(among: Any, group: str) -> list[Layer]:
    """Several operations at once, weighted by the architecture weights of a group: a supernet's edge."""
    paths: list[Mapping[str, Any]] = [{"op": each} if isinstance(each, str) else each for each in among]
    layers = tuple(layers_of(each["op"], each.get("params", {})) for each in paths)
    return [Mixed(tuple(named(each) for each in paths), layers, group)]


@operation("optional")
def optional(of: Any, group: str, position: int = 1) -> list[Layer]:
    """An operation that is there or not, as the architecture weights of a group say: a supernet's skip.

    ``position``: of the choice that it is there, 0 or 1.
    """
    path = tuple(layers_of(of, {}) if isinstance(of, str) else layers_of(of["op"], of.get("params", {})))
    choices = [("out", (Zero(like=path),)), ("in", path)]
    names, paths = zip(*(choices if position else choices[::-1]), strict=True)
    return [Mixed(names, paths, group)]


def named(choice: Mapping[str, Any]) -> str:
    """A choice of an operation as one word: ``conv(c=8,k=3)``."""
    params = ",".join(f"{name}={value}" for name, value in sorted(choice.get("params", {}).items()))
    return f"{choice['op']}({params})" if params else str(choice["op"])
