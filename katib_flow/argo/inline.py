"""A function's module as text in the spec, so that no image need have it."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from katib_flow.argo.imports import binds, left_behind
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.trial.functions import refers_to

_MAIN = "__main__"


def check_importable(experiment: Experiment, function: Callable[..., Any]) -> None:
    """Make sure that a pod, which imports the function by its name, gets this very function.

    Raises:
        InvalidSpec: the name stands for nothing, or for another function.
    """
    reference = experiment.trial.function or ""
    if refers_to(reference, function):
        return
    module = reference.partition(":")[0]
    if "<locals>" in getattr(function, "__qualname__", ""):
        need = "a function at the top level of its module: a pod imports it by name, and cannot do so inside another"
    elif isinstance(function, MethodType):
        need = "a function at the top level of its module: a pod imports it by name, and has no object of its method"
    else:
        need = f"the function that a pod imports under this name: {module} has another one there, or none"
    raise InvalidSpec(experiment.name, [SpecError("trial.function", reference, need)])


def inlined(experiment: Experiment, function: Callable[..., Any] | None = None) -> Experiment:
    """The experiment with the text of its function's module in ``trial.code``; one that has code keeps it.

    Args:
        function: where it is at hand; else its module is looked for as for ``python -m``.

    Raises:
        SpecError: there is no such module, no text of it, or the text alone is not all that it takes.
        KatibFlowError: the trial is no function.
    """
    reference = experiment.trial.function
    if reference is None:
        raise KatibFlowError(f"trial.{experiment.trial.kind}: only the code of a function can be put into the spec")
    if experiment.trial.code:
        return experiment
    module, _, name = reference.partition(":")
    code, file = _of_function(function, reference) if function else _of_module(module, reference, experiment.base)
    _check_alone(experiment, code, file)
    data = experiment.to_dict()
    called = "trial_code" if module == _MAIN else module
    data["trial"] = {**data["trial"], "function": f"{called}:{name}", "code": code}
    return Experiment.parse(data, experiment.name)


def _of_function(function: Callable[..., Any], reference: str) -> tuple[str, Path]:
    module = inspect.getmodule(function)
    try:
        return (inspect.getsource(module), Path(inspect.getfile(module))) if module else ("", Path())
    except (OSError, TypeError):
        need = "a function of a module in a file (a notebook has none: put it into one, or into an image)"
        raise SpecError("trial.function", reference, need) from None


def _of_module(module: str, reference: str, base: Path | None) -> tuple[str, Path]:
    places = list(dict.fromkeys([str(base or Path.cwd()), str(Path.cwd())]))
    sys.path[:0] = [place for place in places if place not in sys.path]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise SpecError(
            "trial.function",
            reference,
            f"a module that is a file below {' or '.join(places)}",
        )
    return Path(found.origin).read_text(encoding="utf-8"), Path(found.origin)


def _check_alone(experiment: Experiment, code: str, file: Path) -> None:
    """A module that travels as text has the function, and needs no other file of this machine."""
    reference, trial = experiment.trial.function or "", experiment.trial
    name = reference.partition(":")[2].partition(".")[0]
    if not binds(code, name):
        raise SpecError("trial.function", reference, f"a function in {file}, which has no {name}")
    if experiment.argo.image is None and (imports := left_behind(code, trial.packages)):
        lines = "; ".join(f"line {each.line} imports {each.module}, {each.what}" for each in imports)
        need = f"a module that a pod can import alone ({lines}): put all of it into {file.name}, or into an argo.image"
        raise SpecError("trial.function", reference, need)
