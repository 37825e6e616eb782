"""A spec under construction from a manifest: its data, the origin of each part, notes, and mistakes."""

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
    """A path in the manifest; with ``below``, the paths below it are the same in the spec."""

    path: str
    below: bool


@dataclass
class Draft:
    """A spec under construction from the sections of a manifest.

    Attributes:
        data: the spec as plain data.
        notes: remarks for people, by paths in the spec.
        problems: mistakes, by paths in the manifest.
        unsound: top-level keys or paths of the spec that cannot be checked, because the manifest is wrong there.
        variant: which stand-ins to use in place of mistakes in the manifest, 0 or 1.
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
        """Add a remark on the part of the spec at a path."""
        self.notes.append(Note(where, text))

    def wrong(self, path: str, value: object, need: str, *, unsound: Collection[str] = ()) -> None:
        """Report a mistake by its path in the manifest, unless it may come from a stand-in for an earlier one.

        Args:
            unsound: keys or paths of the spec that cannot be checked because of it.
        """
        unnamed = value is NOTHING and _cut(path)[0] in self._emptied
        if not self.has_mended(path) and not unnamed:
            self.problems.append(SpecError(path, value, need))
        self.unsound |= set(unsound)

    def came(self, where: str, path: str, *, below: bool = False) -> None:
        """Record that a part of the spec comes from a path in the manifest; ``below`` as in ``Origin``."""
        self._origins[where] = Origin(path, below)

    def moved(self, path: str, to: str) -> None:
        """Replace a path in the manifest, and the paths below it, in all mistakes and origins so far."""

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
        """Read a section of the manifest, reporting its mistakes and using stand-ins for them.

        Args:
            at: the path of the section.
            unsound: keys of the spec that cannot be checked without the section.

        Returns:
            The section; None if stand-ins do not make it valid.
        """
        path: Path = at
        if data is None:
            self.wrong(str(at[0]), NOTHING, "a value; it is required", unsound=unsound)
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
        """True if a path in the manifest is in a part that a stand-in has replaced."""
        ends = [match.start() for match in re.finditer(r"[.\[]", where)] if self._mended else []
        return where in self._mended or any(where[:end] in self._mended for end in ends)

    def all_problems(self, of_spec: Collection[SpecError]) -> list[SpecError]:
        """The mistakes in the manifest and those in the resulting spec, all by paths in the manifest."""
        judged = [problem for problem in of_spec if not self._unsure(problem)]
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
    """A path without its last part, and that part."""
    at = max(where.rfind("."), where.rfind("["))
    return (where[:at], where[at:]) if at > 0 else ("", where)


def listed(data: Any) -> list[Any] | None:
    """A list as it was written; None for anything else."""
    return list(data) if isinstance(data, list | tuple) else None


def get(data: Any, *keys: str) -> Any:
    """The value at a path of keys; None if a key is missing."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def items(data: Any) -> list[Any]:
    """The items of a list; an empty list for anything else."""
    return list(data) if isinstance(data, list | tuple) else []


def mapping(data: Any) -> dict[str, Any]:
    """A mapping as a dict; an empty dict for anything else."""
    return dict(data) if isinstance(data, Mapping) else {}
