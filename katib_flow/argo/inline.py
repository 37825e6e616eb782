"""A function's module as text in the spec, so that no image need have it."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.spec.experiment import Experiment

_MAIN = "__main__"


def inlined(experiment: Experiment, function: Callable[..., Any] | None = None) -> Experiment:
    """The experiment with the text of its function's module in ``trial.code``; one that has code keeps it.

    Args:
        function: where it is at hand; else its module is looked for as for ``python -m``.

    Raises:
        SpecError: there is no such module, or no text of it.
        KatibFlowError: the trial is no function.
    """
    reference = experiment.trial.function
    if reference is None:
        raise KatibFlowError(f"trial.{experiment.trial.kind}: only the code of a function can be put into the spec")
    if experiment.trial.code:
        return experiment
    module, _, name = reference.partition(":")
    code = _of_function(function, reference) if function else _of_module(module, reference)
    data = experiment.to_dict()
    called = "trial_code" if module == _MAIN else module
    data["trial"] = {**data["trial"], "function": f"{called}:{name}", "code": code}
    return Experiment.parse(data, experiment.name)


def _of_function(function: Callable[..., Any], reference: str) -> str:
    module = inspect.getmodule(function)
    try:
        return inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        need = "a function of a module in a file (a notebook has none: put it into one, or into an image)"
        raise SpecError("trial.function", reference, need) from None


def _of_module(module: str, reference: str) -> str:
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise SpecError("trial.function", reference, f"a module that is a file below {here}")
    return Path(found.origin).read_text(encoding="utf-8")
