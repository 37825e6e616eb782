"""One parameter of a search space, and its map to the unit interval.

``at`` is the quantile function of the parameter's prior (its scale): a number drawn evenly from [0, 1) gives a value
drawn from the prior. ``unit`` is its inverse; a value that fills a whole cell of the interval (an int, a category)
maps to the middle of its cell. Algorithms that work in the unit cube therefore search on the user's scale.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from katib_flow.history import Value
from katib_flow.spec.model import LARGEST_INT, Count, Model, NotBoolean, Real, Scalar, Whole
from katib_flow.spec.problems import problem
from katib_flow.spec.scales import Axis, Scale, axis

if TYPE_CHECKING:  # slow to import, and most programs never use the unit cube
    import numpy as np
    from numpy.typing import NDArray

LARGEST = 1e300  # so that no difference of two numbers overflows


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


OneOrMore = Annotated[
    tuple[Scalar, ...],
    Field(min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=Value | list[Value]),
]


def same(one: Value, other: Value) -> bool:
    """True if two values have the same type and are equal: 1, 1.0 and true are three different values."""
    return type(one) is type(other) and one == other


class Parameter(Model):
    """Base of all kinds of parameters. The values of a countable parameter have positions from 0."""

    when: dict[str, OneOrMore] = Field({}, description="active only if each named parent has one of these values")

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Number of distinct values; None if they are not countable."""

    @abstractmethod
    def nth(self, position: int) -> Value:
        """The value at a position, from 0; for countable parameters only."""

    @abstractmethod
    def position(self, value: Value) -> int:
        """The inverse of ``nth``, for a value that the parameter contains."""

    @abstractmethod
    def at(self, unit: float) -> Value:
        """The value at a quantile of the prior, ``unit`` in [0, 1]."""

    @abstractmethod
    def unit(self, value: Value) -> float:
        """The quantile in [0, 1] of a value; of the middle of its cell if the values are countable."""

    @abstractmethod
    def contains(self, value: Value) -> bool:
        """True for a value of the right type, within the bounds and on the grid."""

    def typed(self, value: Value) -> Value:
        """Convert a value as the user wrote it to the type of this parameter: 1 becomes 1.0 for a float."""
        return value

    def units(self, values: Sequence[Value]) -> "NDArray[np.float64]":
        """The quantiles of many values at once, shape (value,); NaN for values that the parameter does not contain."""
        import numpy as np

        typed = [(type(value), value) for value in values]
        known = {key: self.unit(key[1]) if self.contains(key[1]) else math.nan for key in dict.fromkeys(typed)}
        return np.array([known[key] for key in typed], dtype=float)

    def values(self) -> Iterator[Value]:
        """All values in order; empty if they are not countable."""
        return map(self.nth, range(self.size or 0))


class _Choice(Parameter):
    values_: tuple[Scalar, ...] = Field(alias="values", min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(self._positions) < len(self.values_):
            repeated = next(value for index, value in enumerate(self.values_) if self.position(value) != index)
            raise problem("values", repeated, "each value only once")
        return self

    @cached_property
    def _positions(self) -> dict[tuple[type, Value], int]:
        pairs = [((type(value), value), position) for position, value in enumerate(self.values_)]
        return dict(reversed(pairs))  # the first position of a repeated value

    @property
    def size(self) -> int:
        return len(self.values_)

    def nth(self, position: int) -> Value:
        return self.values_[position]

    def position(self, value: Value) -> int:
        return self._positions[type(value), value]

    def at(self, unit: float) -> Value:
        return self.values_[min(int(unit * self.size), self.size - 1)]

    def unit(self, value: Value) -> float:
        return (self.position(value) + 0.5) / self.size

    def contains(self, value: Value) -> bool:
        return (type(value), value) in self._positions


class CategoricalParameter(_Choice):
    """A choice from values without an order."""

    type: Literal["categorical"] = "categorical"


class OrdinalParameter(_Choice):
    """A choice from values in a meaningful order."""

    type: Literal["ordinal"] = "ordinal"


class _Number(Parameter):
    """A number between two bounds, on a scale; with a step, a grid that starts at the lower bound.

    The values of a grid share the prior of the scale: each takes the part up to half-way to its neighbours, and the
    first and the last extend equally far beyond the bounds.
    """

    scale: Scale = "linear"
    min: float
    max: float
    step: float | None = None

    @abstractmethod
    def nth(self, position: int) -> float: ...

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.min, self.max
        if low > high:
            raise problem("min", low, f"a number no greater than max, {high:g}")
        for at, bound in (("min", low), ("max", high)):
            if abs(bound) > LARGEST:
                raise problem(at, bound, f"a number between -{LARGEST:g} and {LARGEST:g}")
        if self.scale in ("log", "lognormal") and low <= 0:
            raise problem("min", low, f"a number above 0, because scale is {self.scale}")
        if self.scale == "logit" and not 0 < low <= high < 1:
            at, bound = ("min", low) if not 0 < low < 1 else ("max", high)
            raise problem(at, bound, "a number strictly between 0 and 1, because scale is logit")
        if self.step is not None and (high - low) / self.step > 2 * LARGEST_INT:
            raise problem("step", self.step, "a larger step, because this grid has too many values to count")
        return self

    @cached_property
    def _axis(self) -> Axis:
        return axis(self.scale, self.min, self.max)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """The two ends of the prior, on the axis of the scale."""
        low, high = float(self.min), float(self.max)
        if self.size is not None and self.step is not None:
            low, high = self._outer(low, self.nth(self.size - 1), self.step / 2)
        return self._axis.forward(low), self._axis.forward(high)

    def _outer(self, first: float, last: float, half: float) -> tuple[float, float]:
        """Half a step beyond the first and the last value, or half-way to the end of the scale if that is nearer."""
        low = first - half if self.scale in ("linear", "normal") or first > half else first / 2
        high = last + half if self.scale != "logit" or last + half < 1 else (last + 1) / 2
        return low, high

    def _real(self, unit: float) -> float:
        start, end = self._ends
        return self._axis.backward(start * (1 - unit) + end * unit)

    def _quantile(self, x: float) -> float:
        start, end = self._ends
        return min(max((self._axis.forward(x) - start) / (end - start), 0.0), 1.0) if start < end else 0.5

    def _cell(self, unit: float) -> int:
        """The position on the grid at a quantile."""
        assert self.size is not None
        if self.size == 1 or self.step is None:
            return 0
        return min(max(math.floor((self._real(unit) - self.min) / self.step + 0.5), 0), self.size - 1)

    def _middle(self, position: int) -> float:
        """The quantile of the middle of the cell at a position on the grid."""
        assert self.size is not None
        if self.size == 1 or self.step is None:
            return 0.5
        low, high = (self.min + (position + side) * self.step for side in (-0.5, 0.5))
        below = 0.0 if position == 0 else self._quantile(low)
        above = 1.0 if position == self.size - 1 else self._quantile(high)
        return (below + above) / 2


class FloatParameter(_Number):
    """A real number; with a step, a grid that starts at min."""

    type: Literal["float"] = "float"
    min: Real
    max: Real
    step: Annotated[FiniteFloat, Field(gt=0), NotBoolean] | None = None

    @cached_property
    def _decimal(self) -> tuple[Fraction, Fraction]:
        """The first value and the step as exact decimals, so that 0.1 + 2 * 0.1 is 0.3."""
        return Fraction(repr(self.min)), Fraction(repr(self.step or 0.0))

    @cached_property
    def _size(self) -> int | None:
        first, step = self._decimal
        if step:
            return (Fraction(repr(self.max)) - first) // step + 1
        return 1 if self.min == self.max else None

    @property
    def size(self) -> int | None:
        """Number of values on the grid; 1 if min equals max, None without a step."""
        return self._size

    def typed(self, value: Value) -> Value:
        """Convert an int to a float, one beyond the range of floats to infinity; leave other values as they are."""
        if type(value) is not int:
            return value
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf

    def nth(self, position: int) -> float:
        """The value at a position of the grid, computed in exact decimals and rounded once."""
        first, step = self._decimal
        return float(first + position * step)

    def position(self, value: Value) -> int:
        """The position nearest to a value; 0 without a step."""
        assert isinstance(value, float)
        return round((value - self.min) / self.step) if self.step else 0

    def nearest(self, value: float) -> float:
        """The value of the grid that equals ``value`` up to rounding errors; without one, ``value`` itself."""
        if self.step is None or not math.isfinite(value):
            return value
        cell = self.nth(self.position(value))
        return cell if math.isclose(cell, value, rel_tol=1e-9, abs_tol=1e-9 * self.step) else value

    def at(self, unit: float) -> float:
        """The value at a quantile, clipped to the bounds; on the grid if there is a step."""
        return min(max(self._real(unit), self.min), self.max) if self.size is None else self.nth(self._cell(unit))

    def unit(self, value: Value) -> float:
        """The quantile of a float; of the middle of its cell if there is a step."""
        assert isinstance(value, float)
        return self._quantile(value) if self.size is None else self._middle(self.position(value))

    def units(self, values: Sequence[Value]) -> "NDArray[np.float64]":
        """The quantiles of many values at once, shape (value,); NaN for ints and for floats outside the bounds."""
        import numpy as np

        start, end = self._ends
        if self.size is not None or start >= end:
            return super().units(values)
        real = [type(value) is float and self.min <= value <= self.max for value in values]
        forward = self._axis.forward
        reached = [forward(value) if ok else math.nan for value, ok in zip(values, real, strict=True)]  # pyright: ignore[reportArgumentType]
        return np.clip((np.array(reached, dtype=float) - start) / (end - start), 0.0, 1.0)

    def contains(self, value: Value) -> bool:
        """True for a float within the bounds that lies on the grid, if there is one; False for every int."""
        if type(value) is not float or not self.min <= value <= self.max:
            return False
        return self.size is None or self.nth(self.position(value)) == value


class IntParameter(_Number):
    """A whole number; with a step, a grid that starts at min."""

    type: Literal["int"] = "int"
    min: Whole  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    max: Whole  # pyright: ignore[reportIncompatibleVariableOverride]
    step: Count = 1  # pyright: ignore[reportIncompatibleVariableOverride]
    scale: Literal["linear", "log", "normal", "lognormal"] = "linear"  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def size(self) -> int:
        """Number of values from min to max in steps of ``step``."""
        return (self.max - self.min) // self.step + 1

    def nth(self, position: int) -> int:
        """The value at a position from 0: min + position * step."""
        return self.min + position * self.step

    def position(self, value: Value) -> int:
        """The position of a value that lies on the grid."""
        assert isinstance(value, int)
        return (value - self.min) // self.step

    def at(self, unit: float) -> int:
        """The value whose cell contains a quantile."""
        return self.nth(self._cell(unit))

    def unit(self, value: Value) -> float:
        """The quantile of the middle of a value's cell."""
        return self._middle(self.position(value))

    def contains(self, value: Value) -> bool:
        """True for an int within the bounds that lies on the grid; False for booleans and floats."""
        return type(value) is int and self.min <= value <= self.max and (value - self.min) % self.step == 0


AnyParameter = Annotated[
    FloatParameter | IntParameter | CategoricalParameter | OrdinalParameter, Field(discriminator="type")
]
