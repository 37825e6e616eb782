"""A spec in the making: its data, where each part came from, what is to be told about it, and what is wrong."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from katib_flow.errors import SpecError
from katib_flow.spec.load import Note
from katib_flow.spec.mending import mended, text_of, without_shadows
from katib_flow.spec.model import Model
from katib_flow.spec.problems import NOTHING, Path, spec_errors

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Origin:
    """A path in the manifest; ``below``: what lies below it has the same path in the spec."""

    path: str
    below: bool


@dataclass
class Draft:
    """What the sections of a manifest are turned into.

    Attributes:
        data: the spec, plain data.
        unsound: top-level keys of the spec, or paths in it, that cannot be judged, because the manifest is wrong there.
        variant: which stand-ins take the place of what is wrong in a section of the manifest.
    """

    data: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: list[Note] = field(default_factory=list[Note])
    problems: list[SpecError] = field(default_factory=list[SpecError])
    unsound: set[str] = field(default_factory=set[str])
    variant: int = 0
    _mended: set[str] = field(default_factory=set[str])
    _emptied: set[str] = field(default_factory=set[str])
    _origins: dict[str, Origin] = field(default_factory=dict[str, Origin])

    def note(self, where: str, text: str) -> None:
        """Tell something about a part of the spec, named by its path there."""
        self.notes.append(Note(where, text))

    def wrong(self, path: str, found: object, need: str, *, unsound: Collection[str] = ()) -> None:
        """Tell a mistake, by its path in the manifest; none in a stand-in for what was told before."""
        unnamed = found is NOTHING and _cut(path)[0] in self._emptied
        if not self.has_mended(path) and not unnamed:
            self.problems.append(SpecError(path, found, need))
        self.unsound |= set(unsound)

    def came(self, where: str, path: str, *, below: bool = False) -> None:
        """A part of the spec came from a path in the manifest."""
        self._origins[where] = Origin(path, below)

    def moved(self, path: str, to: str) -> None:
        """What was told to stand at a path in the manifest, and below it, stands elsewhere."""

        def there(old: str) -> str:
            return to + old.removeprefix(path) if old.startswith(path) else old

        self.problems = [SpecError(there(problem.where), problem.found, problem.need) for problem in self.problems]
        self._origins = {key: replace(origin, path=there(origin.path)) for key, origin in self._origins.items()}

    def origin(self, where: str) -> str:
        """The path in the manifest of a path in the spec, or of the nearest part above it."""
        rest = ""
        while where not in self._origins:
            head, rest_ = _cut(where)
            if not head:
                return "spec"
            where, rest = head, rest_ + rest
        origin = self._origins[where]
        return origin.path + rest if origin.below else origin.path

    def read(self, model: type[M], data: Any, *at: int | str, unsound: Collection[str]) -> M | None:
        """A section of the manifest, with stand-ins for its mistakes, which are told; None where that does not do."""
        path: Path = at
        if data is None:
            self.wrong(str(at[0]), NOTHING, "a value here, it is required", unsound=unsound)
            return None
        try:
            return model.model_validate(data)
        except ValidationError as error:
            first = without_shadows(spec_errors(error, model, data))
        copy = mended(data, model, partial(_judged, model), first, self.variant)
        start = text_of(path)
        self.problems += [
            SpecError(_below(start, problem.where), problem.found, problem.need) for problem in copy.problems
        ]
        self._mended |= {_below(start, where) for where in copy.mended_paths()}
        self._emptied |= {_below(start, where) for where in copy.emptied()}
        try:
            return model.model_validate(copy.data)
        except ValidationError:
            self.unsound |= set(unsound)
            return None

    def has_mended(self, where: str) -> bool:
        """Whether a path in the manifest lies in what a stand-in took the place of."""
        ends = [match.start() for match in re.finditer(r"[.\[]", where)] if self._mended else []
        return where in self._mended or any(where[:end] in self._mended for end in ends)

    def told(self, found: Collection[SpecError]) -> list[SpecError]:
        """All mistakes: those of the manifest, and those of the spec it became, by their path in the manifest."""
        judged = [problem for problem in found if not self._unsure(problem)]
        placed = [SpecError(self.origin(problem.where), problem.found, problem.need) for problem in judged]
        return [*self.problems, *(problem for problem in placed if not self.has_mended(problem.where))]

    def _unsure(self, mistake: SpecError) -> bool:
        where = mistake.where
        parts = {where, *(where[: match.start()] for match in re.finditer(r"[.\[]", where))}
        names_parameter = str(mistake.found).startswith("${")
        return bool(parts & self.unsound) or (names_parameter and "parameters" in self.unsound)


def _judged(model: type[Model], data: Any) -> list[SpecError]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return spec_errors(error, model, data)
    return []


def _below(start: str, where: str) -> str:
    """A path below another one."""
    if where in ("", "the spec"):
        return start or where
    return f"{start}{'' if not start or where.startswith('[') else '.'}{where}"


def _cut(where: str) -> tuple[str, str]:
    """A path without its last step, and that step."""
    at = max(where.rfind("."), where.rfind("["))
    return (where[:at], where[at:]) if at > 0 else ("", where)


def listed(data: Any) -> list[Any] | None:
    """A list of sections, as it was written; None where it is no list."""
    return list(data) if isinstance(data, list | tuple) else None


def get(data: Any, *keys: str) -> Any:
    """What stands at the end of some keys; None where one is not there."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def items(data: Any) -> list[Any]:
    """The items of a list; none where it is no list."""
    return list(data) if isinstance(data, list | tuple) else []


def mapping(data: Any) -> dict[str, Any]:
    """A mapping; an empty one where it is none."""
    return dict(data) if isinstance(data, Mapping) else {}
