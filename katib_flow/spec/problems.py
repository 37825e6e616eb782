"""How a validator says what is wrong; pydantic's findings as ``SpecError``s with the path the user wrote."""

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from katib_flow.errors import SpecError


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()


def problem(at: str, found: object, need: str) -> PydanticCustomError:
    """An error for a validator to raise; ``at`` is the path below the model that raises it."""
    return problems([SpecError(at, found, need)])


def problems(errors: Sequence[SpecError]) -> PydanticCustomError:
    return PydanticCustomError("spec", "breaks a rule of the spec", {"problems": list(errors)})


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def spec_errors(error: ValidationError, root: type[BaseModel], data: object) -> list[SpecError]:
    """Everything pydantic found, in the words of the spec, with the path in the data as the user wrote it."""
    found: list[SpecError] = []
    for item in error.errors(include_url=False):
        path = _written(item["loc"], data, keep_last=item["type"] == "missing")
        if item["type"] == "spec":
            inside: list[SpecError] = item.get("ctx", {})["problems"]
            found += [SpecError(_join([*path, *filter(None, [each.where])]), each.found, each.need) for each in inside]
        elif item["type"] == "extra_forbidden":
            known = _fields_at(root, item["loc"][:-1])
            need = f"one of {', '.join(known)}{did_you_mean(path[-1], known)}"
            found.append(SpecError(_join(path), str(path[-1]), f"a known key, {need}"))
        elif item["type"] == "missing":
            found.append(SpecError(_join(path), NOTHING, "a value here, it is required"))
        else:
            found.append(SpecError(_join(path), _short(item["input"]), _need(item)))
    return found


def _written(loc: Sequence[int | str], data: object, *, keep_last: bool) -> list[int | str]:
    """The part of pydantic's location that is in the data: tags of unions and wrapped single items are ours."""
    path: list[int | str] = []
    here: Any = data
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(here, Mapping):
            if part in here:
                path.append(part)
                here = here[part]
            elif last and keep_last:
                path.append(part)
        elif isinstance(here, Sequence) and not isinstance(here, str) and isinstance(part, int) and part < len(here):
            path.append(part)
            here = here[part]
    return path


def _join(path: Sequence[int | str]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the spec"


def _short(value: object) -> object:
    text = repr(value)
    return value if len(text) <= 80 else text[:77] + "..."


_NEED = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text (quote it)",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "too_short": "at least {min_length} of them",
    "union_tag_invalid": "one of {expected_tags}",
    "union_tag_not_found": "a key {discriminator}",
}


def _need(item: Any) -> str:
    template = _NEED.get(item["type"])
    if template is None:
        message = str(item["msg"]).removeprefix("Value error, ")
        return message[:1].lower() + message[1:]
    return template.format(**item.get("ctx", {}))


def _fields_at(root: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model that a location leads to."""
    models: list[type[BaseModel]] = [root]
    for part in loc:
        inside = [model for model in models if part in model.model_fields]
        if inside:
            models = [found for model in inside for found in _models_in(model.model_fields[str(part)].annotation)]
        else:  # a key of a mapping, a position in a list, or the tag of a union
            models = [model for model in models if _tag(model) == part] or models
    return [name for model in models[:1] for name in model.model_fields]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    return field.default if field else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
