"""Put the source of a function's module into the spec, so that no image needs to contain it."""

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
    """Check that a pod, which imports the function by name, gets this very function.

    Raises:
        InvalidSpec: the name is missing from the module, or refers to another function.
    """
    reference = experiment.trial.function or ""
    if refers_to(reference, function):
        return
    module = reference.partition(":")[0]
    if "<locals>" in getattr(function, "__qualname__", ""):
        need = "a function at the top level of its module, because a pod cannot import one defined inside another"
    elif isinstance(function, MethodType):
        need = "a function at the top level of its module, because a pod does not have the object of a bound method"
    else:
        need = f"a function that a pod can import by this name: {module} has another one there, or none"
    raise InvalidSpec(experiment.name, [SpecError("trial.function", reference, need)])


def inlined(experiment: Experiment, function: Callable[..., Any] | None = None) -> Experiment:
    """Return the experiment with the source of its function's module as ``trial.code``; existing code is kept.

    Args:
        experiment: an experiment whose trials are a function.
        function: the function, if at hand; otherwise its module is searched for as by ``python -m``.

    Raises:
        SpecError: the module or its source cannot be found, or the module needs other local files.
        KatibFlowError: the trials are not a function.
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
    module = "trial_code" if module == _MAIN else module
    data["trial"] = {**data["trial"], "function": f"{module}:{name}", "code": code}
    return Experiment.parse(data, experiment.name)


def _of_function(function: Callable[..., Any], reference: str) -> tuple[str, Path]:
    module = inspect.getmodule(function)
    try:
        return (inspect.getsource(module), Path(inspect.getfile(module))) if module else ("", Path())
    except (OSError, TypeError):
        need = "a function in a module file; from a notebook, move it into a file or into an image"
        raise SpecError("trial.function", reference, need) from None


def _of_module(module: str, reference: str, base: Path | None) -> tuple[str, Path]:
    folders = list(dict.fromkeys([str(base or Path.cwd()), str(Path.cwd())]))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    try:
        module_spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        module_spec = None
    if module_spec is None or module_spec.origin is None or not module_spec.origin.endswith(".py"):
        raise SpecError("trial.function", reference, f"a function in a module file below {' or '.join(folders)}")
    return Path(module_spec.origin).read_text(encoding="utf-8"), Path(module_spec.origin)


def _check_alone(experiment: Experiment, code: str, file: Path) -> None:
    """Check that a module whose source goes into the spec has the function and needs no other local file."""
    reference, trial = experiment.trial.function or "", experiment.trial
    name = reference.partition(":")[2].partition(".")[0]
    if not binds(code, name):
        raise SpecError("trial.function", reference, f"a function that {file} defines; it has no {name}")
    if experiment.argo.image is None and (imports := left_behind(code, trial.packages)):
        lines = "; ".join(f"line {entry.line} imports {entry.module}, {entry.what}" for entry in imports)
        need = f"a module that needs no other local file ({lines}); move all code into {file.name} or an argo.image"
        raise SpecError("trial.function", reference, need)
