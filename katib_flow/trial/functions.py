"""A Python function as a trial: imports it, calls it in a process of its own, and reports its result."""

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.abc import ExecutionLoader
from operator import attrgetter
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spaces import architectures
from katib_flow.spec.trainer import TRAINER
from katib_flow.trial import chance
from katib_flow.trial.returned import Unusable, report_returned
from katib_flow.wording import did_you_mean

if TYPE_CHECKING:
    from katib_flow.spec.experiment import Experiment

Function = Callable[..., Any]
not_for_trials: set[int] = set()
"""File descriptors that a forked trial closes: if it, or a process it starts, held them, its worker's end would not
be noticed."""


def load_function(reference: str) -> Function:
    """Import the function named ``module:name``; the current directory is on the path, as for ``python -m``.

    Raises:
        SpecError: there is no such module or function, or the import fails.
    """
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    folders = " or ".join(dict.fromkeys(folder for folder in (sys.path[0], here) if folder))
    need = f"a function that can be imported from {folders}"
    return _function_in(reference, lambda name: importlib.import_module(name), need)


class _Code(ExecutionLoader):
    """Loads a module from its source text, without a file; tracebacks show its lines."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_filename(self, fullname: str) -> str:
        return f"<trial.code>/{fullname}.py"

    def get_source(self, fullname: str) -> str:
        return self._text


def load_code(reference: str, code: str) -> Function:
    """The function named ``module:name`` in a module with the given source text.

    Raises:
        SpecError: the module cannot be executed, or has no such function.
    """

    def module(name: str) -> Any:
        loader = _Code(code)
        spec = importlib.util.spec_from_file_location(name, loader.get_filename(name), loader=loader)
        assert spec is not None
        loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
        loader.exec_module(loaded)
        return loaded

    return _function_in(reference, module, "a function in trial.code")


def _function_in(reference: str, module: Callable[[str], Any], need: str) -> Function:
    module_name, _, name = reference.partition(":")
    try:
        with chance.noticing_seeds():
            function = attrgetter(name)(module(module_name))
    except (Exception, SystemExit) as error:  # a module may end the program that imports it
        raise SpecError("trial.function", reference, f"{need} ({type(error).__name__}: {error})") from error
    function = plain(function)
    if not callable(function):
        raise SpecError("trial.function", reference, "a function")
    return function


def plain(thing: Any) -> Any:
    """The function inside an experiment that ``kf.experiment`` has made; anything else as it is."""
    from katib_flow.decorator import FunctionExperiment

    while isinstance(thing, FunctionExperiment):
        thing = thing.function
    return thing


def refers_to(reference: str, function: Function) -> bool:
    """True if ``module:name``, looked up in the modules loaded in this process, is this function itself."""
    module, _, name = reference.partition(":")
    try:
        named = plain(attrgetter(name)(sys.modules[module]))
    except (KeyError, AttributeError):
        return False
    if isinstance(named, MethodType) and isinstance(function, MethodType):  # each access creates a new method object
        return named == function
    return named is function


def check_arguments(
    function: Function, reference: str, names: Mapping[str, bool], constants: Collection[str] = ()
) -> None:
    """Check that a function takes all parameters and constants by name, and requires nothing else.

    Args:
        names: parameter -> whether every trial has it (conditional parameters may be absent).
        constants: the names in ``trial.arguments``.

    Raises:
        SpecError: the function takes other arguments.
    """
    try:  # the outermost decorator counts: it may add arguments of its own
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some callables have no signature; the call will show
        return
    taken = _taken(signature)
    for name in constants:
        if taken is not None and name not in taken:
            need = f"an argument of {reference}{signature}{did_you_mean(name, taken)}"
            raise SpecError(f"trial.arguments.{name}", name, need)
    always = [name for name, certain in names.items() if certain]
    for given in (always, names):
        try:
            signature.bind(**dict.fromkeys([*given, *constants]))
        except TypeError as error:
            need = f"a function that takes {', '.join([*names, *constants]) or 'nothing'} by name ({error})"
            if str(error).startswith("missing"):
                need += "; trial.arguments holds arguments that are the same in every trial"
            raise SpecError("trial.function", f"{reference}{signature}", need) from error


def _taken(signature: inspect.Signature) -> list[str] | None:
    """The names of the arguments of a function; None if it takes any (``**kwargs``)."""
    parameters = signature.parameters.values()
    if any(argument.kind is argument.VAR_KEYWORD for argument in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [argument.name for argument in parameters if argument.kind in named]


def trial_function(experiment: "Experiment", given: Function | None = None) -> Function | None:
    """The function of a function trial, after a check of its arguments; None for other kinds of trial.

    Args:
        given: the function, if it does not have to be imported.

    Raises:
        SpecError: there is no such function, or it does not take the parameters and constants.
    """
    reference = experiment.trial.function
    if reference is None:
        return None
    code = experiment.trial.code
    function = given or (load_code(reference, code) if code else load_function(reference))
    _check_call(experiment, reference, function)
    return function


def callable_here(experiment: "Experiment") -> Iterator[SpecError]:
    """A rule: if the function can be imported here, it takes the parameters and constants.

    A function that cannot is checked by the process that runs it. Output of the import goes to stderr.
    """
    reference = experiment.trial.function
    if reference is None or experiment.trial.code:
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            function = load_function(reference)
    except SpecError:
        return
    try:
        _check_call(experiment, reference, function)
    except SpecError as problem:
        yield problem


def _check_call(experiment: "Experiment", reference: str, function: Function) -> None:
    names = {name: not parameter.when for name, parameter in experiment.parameters.items()}
    names |= {experiment.budget.parameter: True} if experiment.budget else {}
    check_arguments(_trainer(experiment, reference, function), reference, names, experiment.trial.arguments)


def _trainer(experiment: "Experiment", reference: str, function: Function) -> Function:
    """The function that trains the networks of an experiment, which a built-in trainer chooses by their input.

    Raises:
        SpecError: the function is a trainer for images and the networks read text, or the other way round.
    """
    choose, reads = getattr(function, "katib_flow_trainer", None), getattr(function, "katib_flow_reads", None)
    if choose is None and reads is None:
        return function
    try:
        space = architectures(experiment)
    except InvalidSpec:  # reported elsewhere, by its own path
        return function
    if space is None:
        return function
    if choose is not None:
        return choose(space.input)
    read = "images" if space.input.tokens is None else "tokens"
    if reads != read:
        need = f"a function that trains networks for {read}, as those of the space, such as {TRAINER}"
        raise SpecError("trial.function", reference, need)
    return function


def fork_function(
    function: Function,
    arguments: Mapping[str, Any],
    objective: str,
    environment: Mapping[str, str],
    error_file: str,
    begin: Callable[[], None],
) -> tuple[int, int]:
    """Call a function in a child process whose stdout and stderr go to a pipe.

    Args:
        objective: the metric that a returned number is reported as.
        error_file: where the child writes the message of an error, as JSON.
        begin: called in the child before the function.

    Returns:
        The pid of the child, which leads a process group of its own, and the reading end of the pipe.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.setsid()
        begin()
        for descriptor in (reading, *not_for_trials):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="replace", closefd=False)
        _become(environment)
        chance.begin()
        code = _call(function, arguments, objective, error_file)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)  # exit handlers and buffers of the parent must not run here


def _become(environment: Mapping[str, str]) -> None:
    """Change only the variables that differ: each change copies memory that is shared with the parent."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _call(function: Function, arguments: Mapping[str, Any], objective: str, error_file: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `with` and `finally` clean up
    try:
        report_returned(function(**arguments), objective)
    except SystemExit as exit_request:
        return _exit_code(exit_request)
    except Unusable as problem:
        print(problem, file=sys.stderr)
        return _failed(str(problem), error_file)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, and its process ends here
        traceback.print_exc()
        return _failed(f"{type(error).__name__}: {error}", error_file)
    return 0


def _failed(message: str, error_file: str) -> int:
    message = message.encode("utf-8", "backslashreplace").decode()  # replaces lone surrogates
    with contextlib.suppress(OSError), Path(error_file).open("w", encoding="utf-8") as file:
        json.dump(message, file)
    return 1


def _exit_code(request: SystemExit) -> int:
    if request.code is None or isinstance(request.code, int):
        return request.code or 0
    print(request.code, file=sys.stderr)
    return 1
