"""Modules that are imported when something of them is first used: asking a system needs no torch, training does."""

import importlib
from typing import Any


class Later:
    """Stands for a module until something of it is asked for, and hands that on."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
