"""Replace what is wrong in data by stand-ins, so that the mistakes hidden behind it are reported as well.

Validation stops early: the rules of a model are checked only if all of its fields are valid, and the rules between
sections only if all sections are. So invalid parts are replaced and the data validated again, a few times. All of it
happens twice, with different stand-ins: a mistake in the data itself is reported both times in the same words, one
that a stand-in caused is not.
"""

import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from katib_flow.errors import SpecError
from katib_flow.spec.problems import NOTHING

ROUNDS = 6
VARIANTS = (0, 1)
Path = tuple[int | str, ...]
Judge = Callable[[Any], list[SpecError]]
_MEANT = re.compile(r"; did you mean '([^']+)'\?$")
_HABIT = re.compile(r"; .* is written (\w+):.* here$", re.DOTALL)
_UNKNOWN = ("a known key, one of ", "no keys here")


@dataclass
class Mended:
    """Data being made valid.

    Attributes:
        variant: which of the stand-ins to use, 0 or 1.
        problems: all mistakes so far, in the order in which they appeared.
        unsound: paths that could not be mended.
    """

    data: Any
    variant: int
    problems: list[SpecError] = field(default_factory=list[SpecError])
    unsound: set[Path] = field(default_factory=set[Path])
    _stand_ins: set[Path] = field(default_factory=set[Path])
    _tries: dict[Path, int] = field(default_factory=dict[Path, int])
    _renamed: dict[Path, Path] = field(default_factory=dict[Path, Path])
    _emptied: set[Path] = field(default_factory=set[Path])

    def covers(self, path: Path) -> bool:
        """True if a path is inside a mended part, so that a mistake there may come from a stand-in."""
        return any(path[:length] in self._tries for length in range(len(path) + 1))

    def whole(self) -> set[Path]:
        """Sections that cannot be checked: they could not be mended, or are a stand-in as a whole."""
        return self.unsound | {path for path in self._tries if len(path) == 1 and path not in self._renamed.values()}

    def emptied(self) -> set[str]:
        """Paths of the mappings from which a key was dropped that may have stood for another key."""
        return {text_of(path) for path in self._emptied}

    def mended_paths(self) -> set[str]:
        """Paths of the mended parts, with keys as they were before renaming."""
        return {self.as_written(SpecError(text_of(path), "", "")).where for path in self._tries}

    def renames_metrics(self) -> bool:
        """True if the name of a metric is a stand-in."""
        return any(path[-1] == "metric" or path[0] == "additional_metrics" for path in self._stand_ins if path)

    def has_below(self, path: Path) -> bool:
        """True if a stand-in is at or below a path."""
        return any(known[: len(path)] == path for known in self._stand_ins)

    def is_consequence(self, problem: SpecError) -> bool:
        """True if a mistake may merely follow from an earlier one."""
        path = path_of(problem.where, self.data)
        if self.covers(path):
            return True
        return problem.found is NOTHING and (path in self._emptied or path[:-1] in self._emptied)

    def as_written(self, problem: SpecError) -> SpecError:
        """A mistake with the path that it had before a key was renamed."""
        path = path_of(problem.where, self.data)
        for length in range(len(path), 0, -1) if self._renamed else ():
            if (before := self._renamed.get(path[:length])) is not None:
                return SpecError(text_of((*before, *path[length:])), problem.found, problem.need)
        return problem

    def mend(self, problem: SpecError, root: type[BaseModel]) -> None:
        """Put a stand-in in the place of a mistake; on each further call for the same path, replace more around it."""
        path = path_of(problem.where, self.data)
        if not path:
            self.unsound.add(())
            return
        tries = self._tries[path] = self._tries.get(path, -1) + 1
        if problem.need.startswith(_UNKNOWN):
            self._rename_or_drop(problem, path)
            return
        self._stand_ins.add(path)
        if tries == 0 and (stand_in := stand_in_at(root, path, self.data, self.variant)) is not None:
            _set(self.data, path, stand_in)
        elif tries < 2 and isinstance(path[-1], str):
            _drop(self.data, path)
        elif len(path) > 1:
            self._harder(path[:-1], root)
        else:
            self.unsound.add(path)

    def _harder(self, path: Path, root: type[BaseModel]) -> None:
        """Replace the parent of a mistake that no stand-in mends."""
        if self._tries.setdefault(path, 0) or (stand_in := stand_in_at(root, path, self.data, self.variant)) is None:
            self.unsound.add(path[:1])
            _drop(self.data, path[:1])
        else:
            _set(self.data, path, stand_in)
        self._stand_ins.add(path)
        self._tries[path] += 1

    def _rename_or_drop(self, problem: SpecError, path: Path) -> None:
        parent = _at(self.data, path[:-1])
        meant = _MEANT.search(problem.need)
        value = _drop(self.data, path)
        if meant and isinstance(parent, dict) and meant[1] not in parent:
            parent[meant[1]] = value
            self._renamed[*path[:-1], meant[1]] = path
        elif ";" in problem.need and not meant:  # a key of another tool: the key it stands for may be missing
            self._emptied.add(path[:-1])


def mended(data: Any, root: type[BaseModel], judge: Judge, first: Sequence[SpecError], variant: int) -> Mended:
    """The data with a stand-in for every mistake that can be mended.

    Args:
        root: the model of the data.
        judge: lists the mistakes in some data.
        first: the mistakes in this data.
        variant: which of the stand-ins to use, 0 or 1.
    """
    copy = Mended(_copy(data), variant, list(first))
    problems = list(first)
    for _ in range(ROUNDS):
        for problem in problems:
            copy.mend(problem, root)
        if not (problems := judge(copy.data)):
            break
        copy.problems += [copy.as_written(problem) for problem in problems if not copy.is_consequence(problem)]
    else:
        copy.unsound |= {path_of(problem.where, copy.data)[:1] for problem in problems}
    return copy


def agreed(first: Iterable[SpecError], second: Iterable[SpecError]) -> list[SpecError]:
    """The mistakes that are in both, in the same words, each of them once."""
    others = {str(problem) for problem in second}
    return list({str(problem): problem for problem in first if str(problem) in others}.values())


def without_shadows(problems: Sequence[SpecError]) -> list[SpecError]:
    """The mistakes, without the keys that are missing only because they are misspelt or written as in another tool."""
    meant = {
        f"{problem.where[: -len(str(problem.found))]}{match[1]}"
        for problem in problems
        if problem.need.startswith(_UNKNOWN) and (match := _MEANT.search(problem.need) or _HABIT.search(problem.need))
    }
    return [problem for problem in problems if problem.found is not NOTHING or problem.where not in meant]


# paths


def path_of(where: str, data: Any) -> Path:
    """The parts of a path such as ``trial.command[2]``; a key may contain dots, and the last one need not exist."""
    path: list[int | str] = []
    while where:
        if isinstance(data, Mapping):
            key = _key(where, data)
            path.append(key)
            data, where = data.get(key), where[len(key) :].removeprefix(".")
        elif match := re.match(r"\[(\d+)\]\.?", where):
            path.append(int(match[1]))
            inside = isinstance(data, list | tuple) and int(match[1]) < len(data)
            data, where = data[int(match[1])] if inside else None, where[match.end() :]
        else:
            path.append(where)
            break
    return tuple(path)


def _key(where: str, data: Mapping[Any, Any]) -> str:
    """The longest key that a path begins with; the whole path if no key fits."""
    ends = [len(where), *(match.start() for match in reversed(list(re.finditer(r"[.\[]", where))))]
    return next((where[:end] for end in ends if where[:end] in data), where)


def text_of(path: Path) -> str:
    """A path as text: the inverse of ``path_of``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _copy(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, list | tuple) else data


def _at(data: Any, path: Path) -> Any:
    """The value at a path; None if the path does not exist."""
    for part in path:
        data = _step(data, part)
    return data


def _set(data: Any, path: Path, value: Any) -> None:
    """Set the value at a path, unless something on the way there is not a container."""
    for part in path[:-1]:
        inner = data.get(part) if isinstance(data, dict) else data[part]
        if not isinstance(inner, dict | list):
            return
        data = inner
    if isinstance(data, dict) or (isinstance(path[-1], int) and path[-1] < len(data)):
        data[path[-1]] = _copy(value)


def _drop(data: Any, path: Path) -> Any:
    parent = _at(data, path[:-1])
    return parent.pop(path[-1], None) if isinstance(parent, dict) else None


# stand-ins


def stand_in_at(root: type[BaseModel], path: Path, data: Any, variant: int) -> Any:
    """A value that is valid at a path; None if none is known."""
    annotation: Any = root
    for part in path:
        annotation = _inside(annotation, part, data)
        if annotation is None:
            return None
        data = _step(data, part)
    return _stand_in(annotation, variant)


def _step(data: Any, part: int | str) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    return data[part] if isinstance(data, list | tuple) and isinstance(part, int) and part < len(data) else None


def _inside(annotation: Any, part: int | str, data: Any) -> Any:
    """The type of the value at a key or a position, given the type of its container."""
    for kind in _plain(annotation):
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tag = data.get("type") if isinstance(data, Mapping) else None
            if not _is_of(kind, tag):
                continue
            if (hint := _hints(kind).get(str(part))) is not None:
                return hint
        elif origin is dict and isinstance(part, str):
            return arguments[1]
        elif origin in (tuple, list):
            return arguments[0] if isinstance(part, int) else _inside(arguments[0], part, data)
    return None


def _is_of(kind: type[BaseModel], tag: object) -> bool:
    """False if a model has a tag other than this one."""
    known = kind.model_fields.get("type")
    return known is None or tag is None or known.default == tag or not isinstance(known.default, str)


def _plain(annotation: Any) -> Iterator[Any]:
    """The types in an annotation: the members of a union, without their metadata."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _plain(get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _plain(argument)
    else:
        yield annotation


@lru_cache(maxsize=256)
def _hints(model: type[BaseModel]) -> dict[str, Any]:
    """The types of the fields of a model, by their keys in the data."""
    hints = get_type_hints(model, include_extras=True)
    return {_named(name, known): hints[name] for name, known in model.model_fields.items()}


def _named(name: str, known: FieldInfo) -> str:
    return known.alias or name


def _stand_in(annotation: Any, variant: int) -> Any:
    try:
        return _known(annotation, variant)
    except TypeError:  # an annotation that cannot be hashed
        return None


@lru_cache(maxsize=1024)
def _known(annotation: Any, variant: int) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    for candidate in _candidates(annotation, variant):
        try:
            adapter.validate_python(candidate)
        except ValidationError:
            continue
        return candidate
    return None


_TEXTS = (("x1", "x2"), ("stand_in_1:f", "stand_in_2:f"), ("/x1", "/x2"), ("x1:1", "x2:1"), ("X1", "X2"))


def _candidates(annotation: Any, variant: int) -> Iterator[Any]:
    """Values that may be valid for a type."""
    for kind in _plain(annotation):
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            yield arguments[-variant]
        elif kind is bool:
            yield bool(variant)
        elif kind is int:
            yield (3, 5)[variant]
        elif kind is float:
            yield from ((0.5, 0.75)[variant], (3.0, 5.0)[variant])
        elif kind is str:
            yield from (texts[variant] for texts in _TEXTS)
        elif origin in (tuple, list):
            yield from ([candidate] for candidate in _candidates(arguments[0], variant))
        elif origin is dict:
            yield {}
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _models(kind, variant)


def _models(kind: type[BaseModel], variant: int) -> Iterator[dict[str, Any]]:
    """Data of a model: its required fields, then the same with one optional field each, in case a rule asks for one."""
    hints = _hints(kind)
    required = {
        key: _stand_in(hints[key], variant)
        for name, known in kind.model_fields.items()
        if known.is_required() and (key := _named(name, known))
    }
    tag = kind.model_fields.get("type")
    if tag is not None and isinstance(tag.default, str):
        required = {"type": tag.default, **required}
    yield required
    for key in hints if variant == 0 else reversed(hints):
        if key not in required:
            yield {**required, key: _stand_in(hints[key], variant)}
