"""The scales of a number: each a monotone map from its values to an axis on which the prior is uniform, and back.

normal and lognormal have their mean in the middle of the bounds (of their logarithms) and the bounds three standard
deviations away, as in Katib's hyperopt service.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, NamedTuple

Scale = Literal["linear", "log", "logit", "normal", "lognormal"]


_TINY = 1e-16  # the least distance of a quantile from 0 and 1, where the normal distribution is infinite


class Axis(NamedTuple):
    """A scale between two bounds: ``forward`` maps a value to the axis, ``backward`` is its inverse."""

    forward: Callable[[float], float]
    backward: Callable[[float], float]


def _linear(low: float, high: float) -> Axis:
    return Axis(float, float)


def _log(low: float, high: float) -> Axis:
    return Axis(math.log, math.exp)


def _logit(low: float, high: float) -> Axis:
    return Axis(lambda x: math.log(x) - math.log1p(-x), lambda y: 1 / (1 + math.exp(-y)))


def _normal(low: float, high: float) -> Axis:
    prior = NormalDist(low / 2 + high / 2, (high / 6 - low / 6) or 1.0)
    return Axis(prior.cdf, lambda y: prior.inv_cdf(min(max(y, _TINY), 1 - _TINY)))


def _lognormal(low: float, high: float) -> Axis:
    prior = _normal(math.log(low), math.log(high))
    return Axis(lambda x: prior.forward(math.log(x)), lambda y: math.exp(prior.backward(y)))


_AXES: dict[Scale, Callable[[float, float], Axis]] = {
    "linear": _linear,
    "log": _log,
    "logit": _logit,
    "normal": _normal,
    "lognormal": _lognormal,
}


@lru_cache(maxsize=4096)
def axis(scale: Scale, low: float, high: float) -> Axis:
    """The axis of a scale between two bounds."""
    return _AXES[scale](low, high)
