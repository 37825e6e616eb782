"""The building blocks of the spec: frozen models, numbers that exclude booleans, and scalars that keep their type."""

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

MOST_UNWRITABLE = 20  # reported mistakes of this kind: data that contains itself has endlessly many
_HALF = re.compile("[\ud800-\udfff]")
NEED_SCALAR = "text, a finite number, true, false or null"
LARGEST_INT = 2**53
"""The largest integer that JSON in other languages, and the float arithmetic of the scales, represent exactly."""


class Model(BaseModel):
    """A frozen part of the spec; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def shorthand(key: str) -> BeforeValidator:
    """Allow a section to be written as text, which becomes the value of ``key``."""
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
    """The parts of free-form data that JSON cannot represent."""
    if depth > MAX_DEPTH:
        yield SpecError(where, "deeper nesting", f"at most {MAX_DEPTH} levels of nesting")
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
    """Mistakes in data that could be validated, but neither written nor shown: endless nesting, lone surrogates.

    No file, store or terminal accepts one half of a UTF-16 surrogate pair.
    """
    return list(islice(_unwritable(data, "", 0), MOST_UNWRITABLE))


def _unwritable(data: Any, where: str, depth: int) -> Iterator[SpecError]:
    if isinstance(data, str):
        if _HALF.search(data):
            yield SpecError(where or "the spec", data, "text without lone surrogates (U+D800 to U+DFFF)")
    elif depth > MAX_DEPTH:
        yield SpecError(where, "deeper nesting", f"at most {MAX_DEPTH} levels of nesting")
    elif isinstance(data, Mapping):
        for key, inner in data.items():
            at = f"{where}.{key}" if where else str(key)
            yield from _unwritable(key, at, depth)
            yield from _unwritable(inner, at, depth + 1)
    elif isinstance(data, list | tuple):
        for position, inner in enumerate(data):
            yield from _unwritable(inner, f"{where}[{position}]", depth + 1)


def _plain(value: Any) -> Any:
    if errors := list(_strange(value, "", 0)):
        raise problems(errors)
    return value


Plain = AfterValidator(_plain)
PlainData = Annotated[dict[str, Any], Plain]
"""Free-form data: settings, a manifest."""


def _json(value: Any) -> Any:
    """Plain data as JSON reads it back: a tuple becomes a list, an enum member or another subclass its plain value."""
    if isinstance(value, Mapping):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return _scalar(value)


JsonData = Annotated[dict[str, Any], Plain, AfterValidator(_json)]
"""Free-form data that survives being written and read back."""

NotBoolean = BeforeValidator(_no_boolean)
Real = Annotated[FiniteFloat, NotBoolean]
Whole = Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT), NotBoolean]
Natural = Annotated[int, Field(ge=0, le=LARGEST_INT), NotBoolean]
Count = Annotated[int, Field(ge=1, le=LARGEST_INT), NotBoolean]
Text = Annotated[str, Field(min_length=1)]
Scalar = Annotated[Value, PlainValidator(_scalar, json_schema_input_type=Value)]
"""A JSON value that keeps its type: 1, 1.0, true and "1" are four different values."""
