"""Plugins that are registered by name: a file in a package of katib-flow, or an entry point of another package."""

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
    """Base class of a plugin's settings: frozen, with unknown keys being errors.

    ``katib-flow algorithms NAME`` shows the text below each field.
    """

    @classmethod
    def about(cls) -> dict[str, str]:
        """The text below each field, by the name of the field; fields without one are left out.

        It is read from the source on demand, not by pydantic when the class is created, which would make importing an
        algorithm slow.
        """
        texts: dict[str, str] = {}
        for model in reversed(cls.__mro__):
            if issubclass(model, Settings):
                texts |= _texts_below_fields(model)
        return texts


class AnySettings(Settings):
    """Settings of an external program or service, which checks them itself."""

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
    """Anything that can be registered."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...


class Configured(Plugin, Protocol):
    """A plugin with settings."""

    @property
    def settings(self) -> type[Model]:
        """The model of its settings."""
        ...


P = TypeVar("P", bound=Plugin)
C = TypeVar("C", bound=Configured)


@dataclass
class Registry(Generic[P]):
    """The plugins of one kind.

    Attributes:
        what: the kind with its article, for messages: ``an operation``.
        entry_points: the group of entry points under which other packages register plugins.
        packages: full names of katib-flow's own packages with a file per plugin; importing a file registers it.
    """

    what: str
    entry_points: str
    packages: tuple[str, ...] = ()
    _entries: dict[str, P] = field(default_factory=dict[str, P])
    _loaded: bool = False

    def add(self, entry: P, *aliases: str) -> None:
        """Register a plugin under its name and its aliases; an entry of the same name is replaced."""
        for name in (entry.name, *aliases):
            self._entries[name] = entry

    def all(self) -> Mapping[str, P]:
        """Every plugin by its own name, without aliases, in alphabetical order; imports all of them."""
        self._load()
        return {name: entry for name, entry in sorted(self._entries.items()) if name == entry.name}

    def find(self, name: str) -> P | None:
        """The plugin with a name or alias; None if it is unknown. Imports only its own file, if it has one."""
        if name not in self._entries:
            for package in self.packages:
                with contextlib.suppress(ImportError, ValueError):  # ValueError: no module has such a name
                    importlib.import_module(f"{package}.{name.replace('-', '_')}")
            if name not in self._entries:
                self._load()
        return self._entries.get(name)

    def get(self, name: str, where: str, more: Iterable[str] = ()) -> P:
        """The plugin with a name or alias.

        Args:
            where: the path of the name in the spec.
            more: other valid words at this path, for the message.

        Raises:
            SpecError: there is no such plugin.
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
                raise KatibFlowError(f"{where}: cannot be imported: {what}") from error
        self._loaded = True

    def check(self: "Registry[C]", section: str, name: str, settings: Mapping[str, Any]) -> Iterator[SpecError]:
        """The mistakes in a section ``{name, settings}`` of a spec."""
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
    """The first line of a plugin's docstring."""
    return (inspect.getdoc(thing) or "").strip().split("\n")[0]
