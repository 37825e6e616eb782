"""What every part of the spec is made of: frozen models, numbers that are no booleans, scalars as they were written."""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PlainValidator

from katib_flow.errors import SpecError
from katib_flow.history import Value
from katib_flow.spec.problems import problem, problems
from katib_flow.spec.yaml12 import MAX_DEPTH

MOST_UNWRITABLE = 20  # mistakes of this kind that are told: data may hold itself twice, and so on without end
_HALF = re.compile("[\ud800-\udfff]")
NEED_SCALAR = "text, a finite number, true, false or null"
LARGEST_INT = 2**53
"""JSON in other languages, and the float arithmetic of the scales, are exact up to here."""


class Model(BaseModel):
    """A frozen part of the spec; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def shorthand(key: str) -> BeforeValidator:
    """A section that may be written as text, the value of one of its keys."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise problem("", value, "a number")
    return value


def _scalar(value: Any) -> Value:
    for kind in (bool, int, str):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if value is None:
        return value
    raise problem("", value, NEED_SCALAR)


def _strange(value: Any, where: str, depth: int) -> Iterator[SpecError]:
    """What stands in free-form data that JSON has no word for."""
    if depth > MAX_DEPTH:
        yield SpecError(where, "more levels", f"at most {MAX_DEPTH} levels of nesting")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _strange(inner, f"{where}.{key}" if where else key, depth + 1)
            else:
                yield SpecError(where, key, "keys that are text")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _strange(inner, f"{where}[{position}]", depth + 1)
    elif not isinstance(value, bool | int | str | None) and not (isinstance(value, float) and math.isfinite(value)):
        yield SpecError(where, value, NEED_SCALAR)


def unwritable(data: Any) -> list[SpecError]:
    """What can be checked, and then neither be written nor shown: what nests without end, and half a character.

    A character that UTF-16 writes as two halves is one in UTF-8: no file, store or terminal takes a half.
    """
    return list(islice(_unwritable(data, "", 0), MOST_UNWRITABLE))


def _unwritable(data: Any, where: str, depth: int) -> Iterator[SpecError]:
    if isinstance(data, str):
        if _HALF.search(data):
            yield SpecError(where or "the spec", data, "text without half of a character (U+D800 to U+DFFF)")
    elif depth > MAX_DEPTH:
        yield SpecError(where, "more levels", f"at most {MAX_DEPTH} levels of nesting")
    elif isinstance(data, Mapping):
        for key, inner in data.items():
            at = f"{where}.{key}" if where else str(key)
            yield from _unwritable(key, at, depth)
            yield from _unwritable(inner, at, depth + 1)
    elif isinstance(data, list | tuple):
        for position, inner in enumerate(data):
            yield from _unwritable(inner, f"{where}[{position}]", depth + 1)


def _plain(value: Any) -> Any:
    if found := list(_strange(value, "", 0)):
        raise problems(found)
    return value


Plain = AfterValidator(_plain)
PlainData = Annotated[dict[str, Any], Plain]
"""Free-form data: settings, a manifest."""


def _json(value: Any) -> Any:
    """Plain data as JSON reads it back: a tuple is a list, an enumeration's member or another subclass its value."""
    if isinstance(value, Mapping):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return _scalar(value)


JsonData = Annotated[dict[str, Any], Plain, AfterValidator(_json)]
"""Free-form data that is the same before and after it was written down."""

NotBoolean = BeforeValidator(_no_boolean)
Real = Annotated[FiniteFloat, NotBoolean]
Whole = Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT), NotBoolean]
Natural = Annotated[int, Field(ge=0, le=LARGEST_INT), NotBoolean]
Count = Annotated[int, Field(ge=1, le=LARGEST_INT), NotBoolean]
Text = Annotated[str, Field(min_length=1)]
Scalar = Annotated[Value, PlainValidator(_scalar, json_schema_input_type=Value)]
"""A value of JSON that keeps its type: 1, 1.0, true and "1" are four values."""
