"""Raise mistakes in validators, and convert pydantic's errors to ``SpecError``s with the path the user wrote."""

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from katib_flow.errors import SpecError, written_out
from katib_flow.spec.habits import habit, type_habit
from katib_flow.wording import did_you_mean

Path = Sequence[int | str]


class _Shown(str):
    """Text that a message shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


NOTHING = _Shown("nothing")


def problem(at: str, value: object, need: str) -> PydanticCustomError:
    """An error for a validator to raise; ``at`` is the path below the model that raises it."""
    return problems([SpecError(at, value, need)])


def problems(errors: Sequence[SpecError]) -> PydanticCustomError:
    """Several mistakes as one error for a validator to raise, with paths as in ``problem``."""
    return PydanticCustomError("spec", "breaks a rule of the spec", {"problems": list(errors)})


def matching(pattern: str, need: str) -> AfterValidator:
    """A validator for text that must match a pattern as a whole; ``need`` describes the pattern in words."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise problem("", text, need)
        return text

    return AfterValidator(check)


def spec_errors(error: ValidationError, root: type[BaseModel], data: object, at: Path = ()) -> list[SpecError]:
    """All of pydantic's errors, in the words of the spec, with paths in the data as the user wrote it.

    Args:
        root: the model that validated the data.
        at: the path of the data in the spec.
    """
    items = error.errors(include_url=False)
    locations = [item["loc"] for item in items]
    errors: list[SpecError] = []
    alternatives = False
    for item in items:
        loc, kind = item["loc"], item["type"]
        if kind == "too_short" and any(len(other) > len(loc) and other[: len(loc)] == loc for other in locations):
            continue  # too few items only because invalid ones, which have their own errors, were not counted
        path = [*at, *_written(loc, data, keep_last=kind == "missing")]
        new = _KINDS.get(kind, _ordinary)(item, path, root)
        if alternatives and kind not in _KINDS and errors[-1].where == new[0].where:  # the next member of a union
            new = [SpecError(new[0].where, new[0].found, f"{errors.pop().need} or {new[0].need}")]
        alternatives = kind not in _KINDS
        errors += new
    return errors


def _rules(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    inside: list[SpecError] = item["ctx"]["problems"]
    return [
        SpecError(_join([*path, *filter(None, [error.where])]), _as_written(error, item["input"]), error.need)
        for error in inside
    ]


def _unknown_key(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    known = [name for model in _models_at(root, item["loc"][:-1])[:1] for name in _keys(model)]
    if not known:
        return [SpecError(_join(path), str(path[-1]), "no keys here")]
    translation = habit(_sections(root, item["loc"][:-1]), path[-1], item["input"], known)
    hint = f"; {translation}" if translation else did_you_mean(path[-1], known)
    need = f"a known key, one of {', '.join(known)}{hint}"
    return [SpecError(_join(path), str(path[-1]), need)]


def _sections(root: type[BaseModel], loc: Path) -> list[str]:
    """The keys in ``HABITS`` of the model at a location: the names of its class and base classes."""
    return [base.__name__.lower() for model in _models_at(root, loc)[:1] for base in model.__mro__]


def _missing(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    return [SpecError(_join(path), NOTHING, "a value; it is required")]


def _tag_missing(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    tags = [tag for model in _models_at(root, item["loc"]) if (tag := _tag(model))]
    return [SpecError(_join([*path, item["ctx"]["discriminator"].strip("'")]), NOTHING, f"one of {', '.join(tags)}")]


def _tag_unknown(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    context = item["ctx"]
    where, tag = _join([*path, context["discriminator"].strip("'")]), context["tag"]
    return [SpecError(where, tag, f"one of {_choice(context['expected_tags'], tag)}{type_habit(tag)}")]


def _ordinary(item: Any, path: Path, root: type[BaseModel]) -> list[SpecError]:
    return [SpecError(_join(path), shown(item["input"]), _need(item))]


_KINDS = {
    "spec": _rules,
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "union_tag_not_found": _tag_missing,
    "union_tag_invalid": _tag_unknown,
}


def _as_written(error: SpecError, data: Any) -> object:
    """The value in an error as the user wrote it: 0, if validation has made it 0.0."""
    written = data.get(error.where) if isinstance(data, Mapping) else None
    return written if written is not None and written == error.found else error.found


def _written(loc: Path, data: object, *, keep_last: bool) -> list[int | str]:
    """The part of pydantic's location that is in the data: not tags of unions, nor indices of wrapped single items."""
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


def _join(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the spec"


def shown(value: object) -> object:
    """A value for a message, shortened to 80 characters."""
    text = written_out(value)
    return NOTHING if value is None else value if len(text) <= 80 else _Shown(text[:77] + "...")


_NEED = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number with fewer digits",
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
    "too_short": "{min_length} or more items",
}


def _need(item: Any) -> str:
    context = {name: _plain(value) for name, value in item.get("ctx", {}).items()}
    if item["type"] in ("literal_error", "enum"):
        return _choice(context["expected"], item["input"])
    if template := _NEED.get(item["type"]):
        return template.format(**context)
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choice(expected: str, value: object) -> str:
    return expected + did_you_mean(value, re.findall(r"'([^']*)'", expected))


def _models_at(root: type[BaseModel], loc: Path) -> list[type[BaseModel]]:
    """The models that may be at a location in the data."""
    models: list[type[BaseModel]] = [root]
    for part in loc:
        inside = [field for model in models if (field := _field(model, part))]
        if inside:
            models = [model for field in inside for model in _models_in(field.annotation)]
        else:  # a key of a mapping, a position in a list, or the tag of a union
            models = [model for model in models if _tag(model) == part] or models
    return models


def _field(model: type[BaseModel], key: int | str) -> FieldInfo | None:
    """The field of a key in the data."""
    return next((field for name, field in model.model_fields.items() if key == (field.alias or name)), None)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    return field.default if field else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
