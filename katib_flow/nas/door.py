"""Lazy imports: most of a system's file needs no torch, so torch is imported only when it is used."""

import importlib
from typing import Any


class Later:
    """A placeholder for a module, which is imported at the first access to one of its attributes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
