"""What every trial of a function would import anew is imported once, in its worker: a fork takes it over at no cost.

A function that is sent from a notebook often imports its libraries itself. PyTorch and scikit-learn take seconds, and
PyTorch's optimisers another one when the first is made.
"""

import contextlib
import dis
import importlib
import inspect
import sys
from collections.abc import Iterator
from types import CodeType

from katib_flow.spec.experiment import Experiment
from katib_flow.trial.functions import Function

FORKABLE = ("numpy", "pandas", "scipy", "sklearn", "torch")  # their import survives a fork
ENVIRONMENT = frozenset({"environ", "putenv"})  # names in a function that may set a variable before it imports


def preload(experiment: Experiment, function: Function) -> None:
    """Import the libraries that a function imports in its body, unless it does so under variables of its own.

    An import that fails is left to the trial, which reports it.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    names = set(_imports(code)) if isinstance(code, CodeType) and not experiment.trial.env else set[str]()
    for name in sorted(names):
        if name.partition(".")[0] in FORKABLE:
            _try_import(name)
    if "torch" in sys.modules:
        _try_import("torch._dynamo")  # otherwise imported with the first optimiser


def _imports(code: CodeType) -> Iterator[str]:
    """The modules that a function and those inside it import; none where it uses the environment."""
    if ENVIRONMENT.isdisjoint(code.co_names):
        yield from (step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from _imports(constant)


def _try_import(name: str) -> None:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
