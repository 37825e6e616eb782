"""The operation library: what an edge may apply, each operation a few layers.

A new operation is a function from its parameters to layers; its defaults are those of the signature. ``c`` is always
the number of output channels (None to keep that of the input), ``k`` the size of the kernel, and ``s`` the stride.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from katib_flow.errors import SpecError
from katib_flow.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    Delay,
    Dropout,
    Flatten,
    GlobalMean,
    Layer,
    Linear,
    Mixed,
    Pool,
    Residual,
    Scale,
    SqueezeExcite,
    Standardise,
    Zero,
)
from katib_flow.plugins import Registry, summary_of
from katib_flow.spec.problems import NOTHING
from katib_flow.wording import did_you_mean

Make = Callable[..., Sequence[Layer]]


@dataclass(frozen=True)
class Operation:
    """A registered operation.

    Attributes:
        plain: from all parameters, including fixed ones, to layers.
        parameters: the names of those that can be set.
        fixed: the values of the parameters that the name implies.
        base: the name of the operation of which it fixes some parameters; its own name for most.
    """

    name: str
    plain: Make
    parameters: tuple[str, ...]
    summary: str = ""
    base: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def make(self, params: Mapping[str, Any]) -> tuple[Layer, ...]:
        """The layers of the operation for some parameters."""
        return tuple(self.plain(**params, **self.fixed))

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters that have no default."""
        signature = inspect.signature(self.plain).parameters
        return tuple(name for name in self.parameters if signature[name].default is inspect.Parameter.empty)


operations = Registry[Operation]("an operation", "katib_flow.operations")
"""Every operation, by name."""
_names: dict[Make, str] = {}


def operation(name: str, **fixed: Any) -> Callable[[Make], Make]:
    """Register a function that returns layers as an operation.

    Args:
        name: its name in a topology.
        fixed: values of the parameters that the name implies (``conv3`` is ``conv`` with ``k=3``).
    """

    def register(make: Make) -> Make:
        parameters = tuple(parameter for parameter in inspect.signature(make).parameters if parameter not in fixed)
        base = _names.get(make, name) if fixed else _names.setdefault(make, name)
        operations.add(Operation(name, make, parameters, summary_of(make), base, fixed))
        _layers.cache_clear()
        return make

    return register


def layers_of(name: str, params: Mapping[str, Any], where: str = "") -> tuple[Layer, ...]:
    """The layers of an operation; empty for the identity.

    Args:
        where: the path of the edge or choice that has ``op`` and ``params``.

    Raises:
        SpecError: the operation is unknown, or does not accept the parameters.
    """
    at = f"{where}." if where else ""
    known = operations.find(name) or operations.get(name, f"{at}op")
    try:
        return _layers(name, tuple((key, type(value), value) for key, value in sorted(params.items())))
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
    except SpecError:
        pass  # raised below, with its own path
    return _checked(known, params, at)


@lru_cache(maxsize=4096)
def _layers(name: str, params: tuple[tuple[str, type, Any], ...]) -> tuple[Layer, ...]:
    known = operations.find(name)
    assert known is not None
    return _checked(known, {key: value for key, _, value in params}, "")


def _checked(known: Operation, params: Mapping[str, Any], at: str) -> tuple[Layer, ...]:
    for parameter, value in params.items():
        if parameter not in known.parameters:
            listed = f": {', '.join(known.parameters)}" if known.parameters else ", which has no parameters"
            need = f"a parameter of {known.name}{listed}{did_you_mean(parameter, known.parameters)}"
            raise SpecError(f"{at}params.{parameter}", value, need)
    for parameter in known.required:
        if parameter not in params:
            raise SpecError(f"{at}params.{parameter}", NOTHING, f"a value, for {known.name}")
    try:
        return known.make(params)
    except SpecError as problem:  # of an operation that contains others
        raise SpecError(f"{at}params.{problem.where}", problem.found, problem.need) from None
    except Exception as error:  # a user's function may raise anything for parameters that it does not accept
        reason = str(error) if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: {error}"
        wrong = next((parameter for parameter in params if _is_sound(known, params, parameter)), None)
        if wrong is None:
            raise SpecError(f"{at}params", dict(params), f"parameters that {known.name} accepts ({reason})") from error
        need = f"a value that {known.name} accepts ({reason})"
        raise SpecError(f"{at}params.{wrong}", params[wrong], need) from error


def _is_sound(known: Operation, params: Mapping[str, Any], without: str) -> bool:
    """Whether an operation accepts its parameters without one of them."""
    try:
        known.make({key: value for key, value in params.items() if key != without})
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _flag(name: str, value: Any) -> bool:
    if value not in (True, False):
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return bool(value)


def _whole(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1 << 16:
        raise ValueError(f"{name} must be a whole number from {least} to {1 << 16:,}, not {value!r}")
    return value


def _conv(c: Any, k: Any, s: Any = 1, d: Any = 1, groups: int = 1, bias: bool = False) -> Conv:
    sides = k if isinstance(k, list | tuple) else (k, k)
    high, wide = (_whole("k", side) for side in sides)
    if not (high % 2 and wide % 2):
        raise ValueError(f"k must be odd, not {k}, because an even kernel has no centre")
    return Conv(None if c is None else _whole("c", c), (high, wide), _whole("s", s), _whole("d", d), groups, bias)


@operation("conv7", k=7)
@operation("conv5", k=5)
@operation("conv3", k=3)
@operation("conv1", k=1)
@operation("conv")
def conv(c: Any = None, k: Any = 3, s: int = 1, d: int = 1, order: str = "relu-conv-bn") -> list[Layer]:
    """A convolution with normalisation and activation, in the order that ``order`` gives."""
    parts = {"conv": _conv(c, k, s, d, bias="bn" not in order.split("-")), "bn": BatchNorm(), "relu": Activation()}
    names = order.split("-")
    if names.count("conv") != 1 or not set(names) <= parts.keys():
        raise ValueError(f"order must be one of relu-conv-bn, conv-bn-relu, conv-bn, conv-relu, conv, not {order!r}")
    return [parts[name] for name in names]


@operation("sep7", k=7)
@operation("sep5", k=5)
@operation("sep3", k=3)
@operation("sep")
def separable(c: Any = None, k: Any = 3, s: int = 1, repeat: int = 2) -> list[Layer]:
    """A depthwise, then a pointwise convolution, twice (Zoph et al., CVPR 2018)."""
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


@operation("dw7", k=7)
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

    ``skip: identity`` adds the input to the output; channels and stride must then keep the shape.
    """
    widened: list[Layer] = [Conv(None, (1, 1), expand=_whole("e", e)), BatchNorm(), Activation("relu6")]
    filtered: list[Layer] = [_conv(None, k, s, groups=0), BatchNorm(), Activation("relu6")]
    if not 0 <= se <= 1:
        raise ValueError(f"se must be a number from 0 to 1, not {se!r}")
    squeezed: list[Layer] = [SqueezeExcite(se)] if se else []
    kept = skip == "identity"
    if skip not in ("none", "identity"):
        raise ValueError(f"skip must be none or identity, not {skip!r}")
    if not kept:
        return [*widened, *filtered, *squeezed, _conv(c, 1), BatchNorm()]
    narrowed = Conv(None if c is None else _whole("c", c), (1, 1))
    if c is None:
        raise ValueError("c must give the number of input channels, because skip is identity")
    return [Residual((*widened, *filtered, *squeezed, narrowed, BatchNorm()))]


@operation("avg5", k=5)
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
    """The input unchanged; with a stride or other channels, fitted by a 1 x 1 convolution."""
    if c is None and s == 1:
        return []
    return reduction(c, s)


@operation("none")
def none(s: int = 1) -> list[Layer]:
    """Zeros, as if there were no edge."""
    return [Zero(_whole("s", s))]


@operation("zeros")
def zeros(shape: Any) -> list[Layer]:
    """Zeros of a given shape, whatever the input; for an edge that only adds channels to a concatenation."""
    return [Zero(own=tuple(_whole("shape", side) for side in shape))]


@operation("reduce", s=2)
def reduction(c: Any = None, s: int = 2) -> Sequence[Layer]:
    """Average pooling over s x s, then a 1 x 1 convolution."""
    pool: list[Layer] = [Pool("avg", s, s)] if _whole("s", s) > 1 else []
    return [Activation(), *pool, _conv(c, 1), BatchNorm()]


@operation("fit")
def fit(c: int, s: int = 1) -> Sequence[Layer]:
    """Maps brought to ``c`` channels and a smaller size, as a cell does with its inputs."""
    return reduction(c, s)


@operation("head")
def head(classes: int, norm: Any = True) -> list[Layer]:
    """Normalisation, a global mean and a dense layer, which gives the logits."""
    before: list[Layer] = [BatchNorm(), Activation()] if _flag("norm", norm) else []
    return [*before, GlobalMean(), Linear(_whole("classes", classes))]


@operation("dense")
def dense(features: int, act: str = "relu") -> Sequence[Layer]:
    """A dense layer and its activation."""
    return [Linear(_whole("features", features)), *activation(act)]


@operation("embed", bias=False)
@operation("linear")
def linear(features: int, bias: bool = True) -> list[Layer]:
    """A dense layer without an activation; for tokens, which are one-hot vectors, an embedding."""
    return [Linear(_whole("features", features), _flag("bias", bias))]


@operation("delay")
def delay(features: int) -> list[Layer]:
    """The input at the previous token, zeros at the first one: the state of a recurrent cell."""
    return [Delay(_whole("features", features))]


@operation("act")
def activation(name: str = "relu") -> list[Layer]:
    """An activation."""
    known = ("relu", "relu6", "tanh", "sigmoid", "silu", "identity")
    if name not in known:
        raise ValueError(f"the activation must be one of {', '.join(known)}, not {name!r}")
    return [] if name == "identity" else [Activation(name)]


@operation("bn")
def norm() -> list[Layer]:
    """Batch normalisation."""
    return [BatchNorm()]


@operation("standardise")
def standardise() -> list[Layer]:
    """Batch normalisation without a trained scale and shift."""
    return [Standardise()]


@operation("scale")
def scale() -> list[Layer]:
    """The input times one trained number, initially 1."""
    return [Scale()]


@operation("flatten")
def flatten() -> list[Layer]:
    """All values of a map as one vector."""
    return [Flatten()]


@operation("global-mean")
def global_mean() -> list[Layer]:
    """The mean of each map."""
    return [GlobalMean()]


@operation("dropout")
def dropout(rate: float = 0.5) -> list[Layer]:
    """Dropout, with the probability ``rate`` of dropping a value."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be a number from 0 to below 1, not {rate!r}")
    return [Dropout(rate)]


@operation("mixed")
def mixed(among: Any, group: str, norm: bool = False) -> list[Layer]:
    """Several operations in parallel, weighted by the architecture weights of a group: an edge of a supernet.

    With ``norm``, the outputs of operations without normalisation are normalised, without scale and shift, unless they
    are zeros.
    """
    paths: list[Mapping[str, Any]] = [{"op": choice} if isinstance(choice, str) else choice for choice in among]
    layers = tuple(layers_of(choice["op"], choice.get("params", {}), f"among[{at}]") for at, choice in enumerate(paths))
    if norm:
        layers = tuple(path if _settled(path) else (*path, Standardise()) for path in layers)
    return [Mixed(tuple(named(choice) for choice in paths), layers, group)]


def _settled(path: Sequence[Layer]) -> bool:
    """Whether the scale of the layers' output is settled: they normalise, or give zeros."""
    return any(isinstance(layer, BatchNorm | Zero) for layer in path)


@operation("optional")
def optional(of: Any, group: str, position: int = 1, names: Sequence[str] = ("out", "in")) -> list[Layer]:
    """An operation that may be left out, by the architecture weights of a group: a supernet's skip, or a source.

    ``position`` is that of the choice which keeps it, and ``names`` are those of all choices.
    """
    path = tuple(layers_of(of, {}, "of") if isinstance(of, str) else layers_of(of["op"], of.get("params", {}), "of"))
    words = names if len(names) > 2 or position else names[::-1]
    paths = tuple(path if at == position else (Zero(like=path),) for at in range(len(words)))
    return [Mixed(tuple(words), paths, group)]


@operation("unread")
def unread(by: Any) -> list[Layer]:
    """The input unchanged, unless a choice reads it elsewhere: a loose end of a supernet.

    ``by`` has ``[group, position, names]`` for each group whose choices may read it.
    """
    return [
        Mixed(tuple(names), tuple((Zero(like=()),) if at == position else () for at in range(len(names))), group)
        for group, position, names in by
    ]


def named(choice: Mapping[str, Any]) -> str:
    """An operation with its parameters as one word: ``conv(c=8,k=3)``."""
    params = ",".join(f"{name}={value}" for name, value in sorted(choice.get("params", {}).items()))
    return f"{choice['op']}({params})" if params else str(choice["op"])
