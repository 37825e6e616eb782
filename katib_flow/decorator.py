"""An experiment around a Python function: ``@kf.experiment(...)``."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from katib_flow.errors import InvalidSpec, SpecError
from katib_flow.spaces import check_architecture
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter, FloatParameter, IntParameter, OrdinalParameter, Parameter
from katib_flow.spec.problems import NOTHING, spec_errors

if TYPE_CHECKING:
    from katib_flow.local.background import Running
    from katib_flow.local.result import Result
    from katib_flow.local.scheduler import Progress
    from katib_flow.tracking import Store


class FunctionExperiment:
    """A function that is also an experiment. Calling it calls the function; ``run`` searches."""

    def __init__(self, function: Callable[..., Any], experiment: Experiment) -> None:
        functools.update_wrapper(self, function)
        self.function, self.spec = function, experiment

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def run(self, **options: Any) -> "Result":
        """Search on this machine; options as in ``katib_flow.run``."""
        return run(self, **options)

    def start(self, **options: Any) -> "Running":
        """Search in the background; options as in ``katib_flow.start``."""
        return start(self, **options)

    def _repr_html_(self) -> str:
        return self.spec._repr_html_()

    def to_workflow(self, *, image: str | None = None) -> Any:
        """The search as a ``hera.workflows.Workflow``.

        Args:
            image: holds the function's module and katib-flow; without one, the module's text travels in the spec.

        Raises:
            InvalidSpec: the experiment cannot run on a cluster.
        """
        from katib_flow.argo import compile_experiment
        from katib_flow.argo.inline import check_importable, inlined

        spec = self.spec
        if image:
            spec = spec.model_copy(update={"argo": spec.argo.model_copy(update={"image": image})})
        check_importable(spec, self.function)
        return compile_experiment(spec if spec.argo.image else inlined(spec, self.function))


def experiment(
    *,
    parameters: Mapping[str, Parameter],
    maximize: str | Sequence[str] = (),
    minimize: str | Sequence[str] = (),
    goal: float | None = None,
    name: str | None = None,
    algorithm: str | Mapping[str, Any] | None = None,
    seed: int | None = None,
    max_trials: int | None = None,
    parallel_trials: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Callable[[Callable[..., Any]], FunctionExperiment]:
    """Make an experiment of a function that takes the parameters, and the constants, by name.

    The function returns a number, a dict of metrics, or yields one of these a step.

    Args:
        parameters: ``kf.Float(...)``, ``kf.Int(...)``, ``kf.Categorical(...)``, ``kf.Ordinal(...)`` by name.
        maximize, minimize: the objective's metric, or several for a multi-objective search.
        goal: value of the first objective that ends the search.
        algorithm: a name, or a mapping with name, seed and settings.
        arguments: constants by name, with which every trial calls the function as well.
        spec: any other section of the spec: limits, budget, metrics, tracking, argo ...

    Raises:
        InvalidSpec: with every mistake.
    """
    from katib_flow.trial.functions import plain, trial_function

    objectives = [*_objectives("maximize", maximize), *_objectives("minimize", minimize)]
    if not objectives or "objective" in spec:
        need = "the name of a metric in maximize or minimize"
        raise InvalidSpec("", [SpecError("objective", spec.get("objective", NOTHING), need)])
    if goal is not None:
        objectives[0]["goal"] = goal
    chosen = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    spec["algorithm"] = _section("algorithm", chosen, seed=seed)
    limits = {"max_trials": max_trials, "parallel_trials": parallel_trials}
    spec["limits"] = _section("limits", spec.get("limits"), **limits)

    def decorate(function: Callable[..., Any]) -> FunctionExperiment:
        module, called = home_of(function)
        data = {
            "name": name or called.rpartition(".")[2].strip("_").replace("_", "-").lower(),
            "objective": objectives if len(objectives) > 1 else objectives[0],
            "parameters": parameters,
            **spec,
            "trial": _section("trial", spec.get("trial"), function=f"{module}:{called}", arguments=arguments),
        }
        experiment = Experiment.parse(data, called, [check_architecture])
        try:
            trial_function(experiment, plain(function))
        except SpecError as problem:
            raise InvalidSpec(called, [problem]) from None
        return FunctionExperiment(function, experiment)

    return decorate


def home_of(function: object) -> tuple[str, str]:
    """The module of a function, and what that module calls it."""
    called = getattr(function, "__qualname__", None)
    if not callable(function) or not isinstance(called, str):
        raise InvalidSpec("", [SpecError("the decorated object", function, "a function, made by def")])
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):  # a classmethod: the class that it was taken from may have inherited it
        return owner.__module__, f"{owner.__qualname__}.{function.__name__}".replace("<locals>.", "")
    return function.__module__, called.replace("<locals>.", "")


def _objectives(direction: str, metrics: object) -> list[dict[str, Any]]:
    names = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(names, Sequence):
        raise InvalidSpec("", [SpecError(direction, names, "the name of a metric, or a list of names")])
    return [{"metric": metric, "direction": direction} for metric in names]


def _section(name: str, given: object, **values: Any) -> dict[str, Any]:
    """A section of the spec, with values that have arguments of their own where they are given."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidSpec("", [SpecError(name, given, "a mapping of keys to values")])
    return {key: value for key, value in values.items() if value is not None} | dict(given or {})


def run(
    what: "FunctionExperiment | Experiment",
    *,
    store: "Store | None" = None,
    tracking_uri: str | None = None,
    barrier: bool = False,
    progress: "Progress | None" = None,
    warm_start: Sequence[str] = (),
) -> "Result":
    """Run an experiment on this machine.

    Args:
        warm_start: names or run ids of earlier experiments to learn from, in place of the spec's.
        store, tracking_uri: where to record; the spec's, else ``sqlite:///katib_flow.db`` in this directory.
        barrier: suggest only when no trial is running, as an iteration on Argo does.
        progress: who watches; on a terminal a live display where it is not given, elsewhere nobody.

    Raises:
        InvalidSpec: the experiment cannot run as it is written.
        KatibFlowError: it cannot run here, or it is called while a trial's worker imports this module.
    """
    import sys

    from katib_flow.local import run_experiment
    from katib_flow.local.progress import watching

    spec, function, store = _to_run("kf.run", what, store, tracking_uri, warm_start)
    with watching(spec, quiet=progress is not None or not sys.stdout.isatty()) as display:
        return run_experiment(spec, function=function, store=store, progress=progress or display, barrier=barrier)


def start(
    what: "FunctionExperiment | Experiment",
    *,
    store: "Store | None" = None,
    tracking_uri: str | None = None,
    barrier: bool = False,
    progress: "Progress | None" = None,
    warm_start: Sequence[str] = (),
) -> "Running":
    """Run an experiment in the background, for a notebook: what it gives tells how it stands, and stops it.

    The arguments are those of ``run``; nothing is displayed. When the program ends, the experiment does so in order, as
    after Ctrl-C, and can be resumed.

    Raises:
        InvalidSpec: the experiment cannot run as it is written. Whatever else ends it is raised by ``wait``.
        KatibFlowError: it is called while a trial's worker imports this module.
    """
    from katib_flow.local.background import Running
    from katib_flow.local.run import check_here

    spec, function, store = _to_run("kf.start", what, store, tracking_uri, warm_start)
    check_here(spec)
    return Running(spec, progress, function=function, store=store, barrier=barrier)


def _to_run(
    called: str, what: object, store: "Store | None", tracking_uri: str | None, warm_start: Sequence[str]
) -> "tuple[Experiment, Callable[..., Any] | None, Store | None]":
    """An experiment as it is to run, its function where that is to be sent along, and where it is recorded."""
    import os

    from katib_flow.errors import KatibFlowError
    from katib_flow.local.worker import IN_WORKER
    from katib_flow.tracking import Store

    if not isinstance(what, FunctionExperiment | Experiment):
        need = "an experiment: what @kf.experiment made of a function, or kf.load(path)"
        if isinstance(getattr(what, "__wrapped__", None), FunctionExperiment):
            need += "; here a decorator stands above @kf.experiment, which should be the topmost"
        raise InvalidSpec(called, [SpecError("what", what, need)])
    if IN_WORKER in os.environ:
        method = called.removeprefix("kf.")
        raise KatibFlowError(
            f'an experiment was run while its module was imported; put {method}() under if __name__ == "__main__":'
        )
    spec, function = (what.spec, what.function) if isinstance(what, FunctionExperiment) else (what, None)
    if warm_start:
        names = [warm_start] if isinstance(warm_start, str) else list(warm_start)
        spec = Experiment.parse(spec.to_dict() | {"warm_start": names}, spec.name)
    if function is not None:
        spec, function = _sent(spec, function)
    if store is None and tracking_uri:
        store = Store(tracking_uri, spec.tracking.experiment)
    return spec, function, store


def _sent(spec: Experiment, function: Callable[..., Any]) -> tuple[Experiment, Callable[..., Any] | None]:
    """The function to send to the workers; None where they get it by importing it, as any other program would.

    One that is sent is recorded as of ``__main__``, which nobody else can import: under the name that it has here
    another process might find another function.
    """
    from katib_flow.trial.functions import plain, refers_to

    function, reference = plain(function), spec.trial.function or ""
    module, _, name = reference.partition(":")
    if module != "__main__" and refers_to(reference, function):
        return spec, None
    trial = spec.trial.model_copy(update={"function": f"__main__:{name}"})
    return spec.model_copy(update={"trial": trial}), function


def parameter_of(called: str, kind: type[Parameter], **fields: Any) -> Any:
    """A parameter of some fields, None being one that is not given.

    Args:
        called: what the user calls, for the error.

    Raises:
        InvalidSpec: with every mistake.
    """
    from pydantic import ValidationError

    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise InvalidSpec(called, spec_errors(error, kind, given)) from None


_REQUIRED: Any = None  # what is missing is told together with what else is wrong, by the names of other tools say


def Float(  # noqa: N802 - these four stand where a class would
    min: float = _REQUIRED,
    max: float = _REQUIRED,
    *,
    step: float | None = None,
    scale: str = "linear",
    when: Any = None,
    **unknown: Any,
) -> FloatParameter:
    """A real number between two bounds; scale: linear, log, logit, normal or lognormal."""
    return parameter_of("kf.Float", FloatParameter, min=min, max=max, step=step, scale=scale, when=when, **unknown)


def Int(  # noqa: N802
    min: int = _REQUIRED,
    max: int = _REQUIRED,
    *,
    step: int | None = None,
    scale: str = "linear",
    when: Any = None,
    **unknown: Any,
) -> IntParameter:
    """A whole number between two bounds, both included; scale: linear, log, normal or lognormal."""
    return parameter_of("kf.Int", IntParameter, min=min, max=max, step=step, scale=scale, when=when, **unknown)


def Categorical(values: Sequence[Any] = _REQUIRED, *, when: Any = None, **unknown: Any) -> CategoricalParameter:  # noqa: N802
    """One of some values without an order."""
    return parameter_of("kf.Categorical", CategoricalParameter, values=values, when=when, **unknown)


def Ordinal(values: Sequence[Any] = _REQUIRED, *, when: Any = None, **unknown: Any) -> OrdinalParameter:  # noqa: N802
    """One of some values in a meaningful order."""
    return parameter_of("kf.Ordinal", OrdinalParameter, values=values, when=when, **unknown)
