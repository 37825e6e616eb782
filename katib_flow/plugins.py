"""Things that are registered under a name, a file each in a package of ours, or brought by others' packages."""

import ast
import contextlib
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ConfigDict, ValidationError

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.spec.model import Model
from katib_flow.spec.problems import spec_errors
from katib_flow.wording import did_you_mean


class Settings(Model):
    """Base of a plugin's settings: frozen, and a key it does not know is an error.

    The text below a field says what it is to ``katib-flow algorithms NAME``.
    """

    @classmethod
    def about(cls) -> dict[str, str]:
        """The text below each field that has one, by the field's name.

        It is read from the source now, not by pydantic when the class is made: that costs every program that imports
        an algorithm more than the algorithm does.
        """
        texts: dict[str, str] = {}
        for model in reversed(cls.__mro__):
            if issubclass(model, Settings):
                texts |= _texts_below_fields(model)
        return texts


class AnySettings(Settings):
    """Settings of what runs elsewhere, which alone knows them."""

    model_config = ConfigDict(extra="allow")


def _texts_below_fields(model: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


class Plugin(Protocol):
    """What is registered."""

    @property
    def name(self) -> str: ...


class Configured(Plugin, Protocol):
    """What is registered and takes settings."""

    @property
    def settings(self) -> type[Model]: ...


P = TypeVar("P", bound=Plugin)
C = TypeVar("C", bound=Configured)


@dataclass
class Registry(Generic[P]):
    """The plugins of one kind.

    Attributes:
        what: one of them, with its article, for people: ``an operation``.
        entry_points: group under which other packages name theirs.
        packages: full names of the packages that have a file for each of ours; importing a file registers it.
    """

    what: str
    entry_points: str
    packages: tuple[str, ...] = ()
    _entries: dict[str, P] = field(default_factory=dict[str, P])
    _loaded: bool = False

    def add(self, entry: P, *aliases: str) -> None:
        for name in (entry.name, *aliases):
            self._entries[name] = entry

    def all(self) -> Mapping[str, P]:
        """Every plugin under its own name, in the order of the alphabet."""
        self._load()
        return {name: entry for name, entry in sorted(self._entries.items()) if name == entry.name}

    def find(self, name: str) -> P | None:
        """The plugin of a name or alias; imports its own file only, where there is one."""
        if name not in self._entries:
            for package in self.packages:
                with contextlib.suppress(ImportError, ValueError):  # ValueError: no module has such a name
                    importlib.import_module(f"{package}.{name.replace('-', '_')}")
            if name not in self._entries:
                self._load()
        return self._entries.get(name)

    def get(self, name: str, where: str, more: Iterable[str] = ()) -> P:
        """The plugin of a name or alias.

        Args:
            where: the path at which the name stands.
            more: other words that may stand there.

        Raises:
            SpecError: there is none.
        """
        entry = self.find(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if entry is None:
            known = [*self.all(), *more]
            raise SpecError(where, name, f"{self.what}: {', '.join(known)}{did_you_mean(name, known)}")
        return entry

    def _load(self) -> None:
        if self._loaded:
            return
        from importlib.metadata import entry_points  # slow to import, and only needed now

        for package in map(importlib.import_module, self.packages):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                importlib.import_module(module.name)
        for entry in entry_points(group=self.entry_points):
            try:
                entry.load()
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                where = f"entry point {entry.value} of {self.entry_points}"
                raise KatibFlowError(f"{where}: does not import: {what}") from error
        self._loaded = True

    def check(self: "Registry[C]", section: str, name: str, settings: Mapping[str, Any]) -> Iterator[SpecError]:
        """What is wrong with a section ``{name, settings}`` of a spec."""
        try:
            entry = self.get(name, f"{section}.name")
        except SpecError as problem:
            yield problem
            return
        try:
            entry.settings.model_validate(settings)
        except ValidationError as error:
            yield from spec_errors(error, entry.settings, settings, at=(section, "settings"))


def summary_of(thing: Any) -> str:
    """What a plugin is, in one line: the first of its docstring."""
    return (inspect.getdoc(thing) or "").strip().split("\n")[0]
