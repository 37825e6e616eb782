"""One parameter of a search space, and its map to the unit interval.

``at`` is the quantile function of the parameter's prior (its scale): a number drawn evenly from [0, 1) gives a value
drawn from the prior. ``unit`` is its inverse; a value that fills a whole cell of the interval (an int, a category)
maps to the middle of its cell. Algorithms that think in the unit cube therefore search on the scale the user chose.
"""

import bisect
import math
from abc import abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, Strict, model_validator

from katib_flow.history import Value
from katib_flow.spec.problems import problem

Scale = Literal["linear", "log", "logit", "normal", "lognormal"]


class Model(BaseModel):
    """A frozen part of the spec; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Scalar = (
    Annotated[bool, Strict()]
    | Annotated[int, Strict()]
    | Annotated[FiniteFloat, Strict()]
    | Annotated[str, Strict()]
    | None
)
Condition = dict[str, Annotated[tuple[Scalar, ...], BeforeValidator(_as_list)]]


def same(one: Value, other: Value) -> bool:
    """Whether two values are one and the same: 1, 1.0 and true are three values."""
    return type(one) is type(other) and one == other


class Parameter(Model):
    """What every kind of parameter has.

    Attributes:
        when: the parameter is active only where each parent named has one of the values listed.
    """

    when: Condition = Field(default={}, description="active only where each parent named has one of these values")

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Number of distinct values; None where they are not countable."""

    @abstractmethod
    def at(self, unit: float) -> Value:
        """The value at a quantile of the prior, ``unit`` in [0, 1]."""

    @abstractmethod
    def unit(self, value: Value) -> float:
        """The quantile in [0, 1] of a value, of the middle of its cell where the values are countable."""

    @abstractmethod
    def values(self) -> Sequence[Value]:
        """All values in order, of a countable parameter."""

    @abstractmethod
    def contains(self, value: Value) -> bool: ...


class _Choice(Parameter):
    values_: tuple[Scalar, ...] = Field(alias="values", min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for position, value in enumerate(self.values_):
            if any(same(value, other) for other in self.values_[:position]):
                raise problem("values", value, "each value once")
        return self

    @property
    def size(self) -> int:
        return len(self.values_)

    def values(self) -> Sequence[Value]:
        return self.values_

    def at(self, unit: float) -> Value:
        return self.values_[min(int(unit * self.size), self.size - 1)]

    def unit(self, value: Value) -> float:
        index = next(index for index, other in enumerate(self.values_) if same(value, other))
        return (index + 0.5) / self.size

    def contains(self, value: Value) -> bool:
        return any(same(value, other) for other in self.values_)


class CategoricalParameter(_Choice):
    """One of a set of values without an order."""

    type: Literal["categorical"] = "categorical"


class OrdinalParameter(_Choice):
    """One of a list of values in a meaningful order."""

    type: Literal["ordinal"] = "ordinal"


class _Number(Parameter):
    """A number between two bounds, on a scale.

    normal and lognormal are cut off at the bounds, with the mean in their middle (of the logarithms) and the bounds
    three standard deviations away, as Katib's hyperopt service has it.
    """

    scale: Scale = "linear"

    @property
    def low(self) -> float:
        return float(self.min)  # type: ignore[attr-defined]

    @property
    def high(self) -> float:
        return float(self.max)  # type: ignore[attr-defined]

    @property
    def increment(self) -> float | None:
        return self.step  # type: ignore[attr-defined,no-any-return]

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.low > self.high:
            raise problem("min", self.min, f"a number no greater than max, {self.max}")  # type: ignore[attr-defined]
        if self.scale in ("log", "lognormal") and self.low <= 0:
            raise problem("min", self.min, f"a number above 0, because scale is {self.scale}")  # type: ignore[attr-defined]
        if self.scale == "logit" and not 0 < self.low <= self.high < 1:
            at = "min" if self.low <= 0 else "max"
            raise problem(at, getattr(self, at), "a number strictly between 0 and 1, because scale is logit")
        return self

    def _forward(self, x: float) -> float:
        """The scale's monotone map, up to an affine one."""
        if self.scale == "linear" or self.low == self.high:
            return x
        if self.scale == "log":
            return math.log(x)
        if self.scale == "logit":
            return math.log(x / (1 - x))
        return self._normal.cdf(math.log(x) if self.scale == "lognormal" else x)

    def _backward(self, y: float) -> float:
        if self.scale == "linear" or self.low == self.high:
            return y
        if self.scale == "log":
            return math.exp(y)
        if self.scale == "logit":
            return 1 / (1 + math.exp(-y))
        x = self._normal.inv_cdf(y)
        return math.exp(x) if self.scale == "lognormal" else x

    @cached_property
    def _normal(self) -> NormalDist:
        low, high = (math.log(self.low), math.log(self.high)) if self.scale == "lognormal" else (self.low, self.high)
        return NormalDist((low + high) / 2, (high - low) / 6)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return self._forward(self.low), self._forward(self.high)

    @property
    def size(self) -> int | None:
        if self.increment is None:
            return 1 if self.low == self.high else None
        return int((Decimal(str(self.max)) - Decimal(str(self.min))) // Decimal(str(self.increment))) + 1  # type: ignore[attr-defined]

    def _value(self, position: int) -> float:
        """The value at a position of the grid, added up in decimal so that 0.1 + 2 * 0.1 is 0.3."""
        return float(Decimal(str(self.min)) + position * Decimal(str(self.increment or 0)))  # type: ignore[attr-defined]

    @cached_property
    def _edges(self) -> list[float]:
        """Borders between the cells of a grid, in quantiles: half-way between neighbours on the natural axis."""
        count, step = self.size or 1, self.increment or 1.0
        first, last = self._value(0), self._value(count - 1)
        below = first - step / 2 if self.scale in ("linear", "normal") or first > step / 2 else first / 2
        above = last + step / 2 if self.scale != "logit" or last + step / 2 < 1 else (last + 1) / 2
        marks = [self._forward(x) for x in (below, *((self._value(k) + step / 2) for k in range(count - 1)), above)]
        return [(mark - marks[0]) / (marks[-1] - marks[0]) for mark in marks]

    def _at(self, unit: float) -> float:
        unit = min(max(unit, 0.0), 1.0)
        if self.low == self.high:
            return self.low
        if self.increment is None:
            start, end = self._ends
            return min(max(self._backward(start + unit * (end - start)), self.low), self.high)
        count = self.size or 1
        return self._value(min(bisect.bisect_right(self._edges, unit, 1, count) - 1, count - 1))

    def unit(self, value: Value) -> float:
        x = float(value)  # type: ignore[arg-type]
        if self.low == self.high:
            return 0.5
        if self.increment is None:
            start, end = self._ends
            return (self._forward(x) - start) / (end - start)
        position = round((x - self.low) / self.increment)
        return (self._edges[position] + self._edges[position + 1]) / 2

    def _on_grid(self, x: float) -> bool:
        if not self.low <= x <= self.high:
            return False
        if self.increment is None:
            return True
        return self._value(round((x - self.low) / self.increment)) == x


class FloatParameter(_Number):
    """A real number; with a step, a grid that starts at min."""

    type: Literal["float"] = "float"
    min: FiniteFloat
    max: FiniteFloat
    step: Annotated[FiniteFloat, Field(gt=0)] | None = None

    def at(self, unit: float) -> float:
        return self._at(unit)

    def contains(self, value: Value) -> bool:
        return type(value) is float and self._on_grid(value)

    def values(self) -> Sequence[float]:
        return [self._value(position) for position in range(self.size or 0)]


class IntParameter(_Number):
    """A whole number; with a step, a grid that starts at min."""

    type: Literal["int"] = "int"
    min: int
    max: int
    step: Annotated[int, Field(ge=1)] = 1
    scale: Literal["linear", "log", "normal", "lognormal"] = "linear"  # pyright: ignore[reportIncompatibleVariableOverride] - frozen

    @property
    def size(self) -> int:
        return (self.max - self.min) // self.step + 1

    def at(self, unit: float) -> int:
        return int(self._at(unit))

    def contains(self, value: Value) -> bool:
        return type(value) is int and self.min <= value <= self.max and (value - self.min) % self.step == 0

    def values(self) -> Sequence[int]:
        return range(self.min, self.max + 1, self.step)


AnyParameter = Annotated[
    FloatParameter | IntParameter | CategoricalParameter | OrdinalParameter, Field(discriminator="type")
]
