"""``kf.search``: parameters under the names of ``katib.search`` in Katib's SDK."""

from collections.abc import Sequence
from typing import Any

from katib_flow.decorator import parameter_of
from katib_flow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter

__all__ = ["categorical", "double", "int"]


def double(min: Any = None, max: Any = None, step: Any = None) -> FloatParameter:
    """A real number between two bounds, both included, with a uniform prior; for other priors, use ``kf.Float``."""
    return parameter_of("kf.search.double", FloatParameter, min=min, max=max, step=step)


def int(min: Any = None, max: Any = None, step: Any = None) -> IntParameter:
    """A whole number between two bounds, both included, with a uniform prior; for other priors, use ``kf.Int``."""
    return parameter_of("kf.search.int", IntParameter, min=min, max=max, step=step)


def categorical(list: Sequence[Any] | None = None) -> CategoricalParameter:
    """A choice from values without an order, the same as ``kf.Categorical``."""
    return parameter_of("kf.search.categorical", CategoricalParameter, values=list)
