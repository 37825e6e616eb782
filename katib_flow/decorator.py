"""Experiments from Python functions: ``@kf.experiment(...)``, and ``kf.run`` and ``kf.start``."""

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
    from katib_flow.local.observer import Progress
    from katib_flow.local.result import Result
    from katib_flow.tracking import Store


class FunctionExperiment:
    """A function with an experiment. Calling it calls the function; ``run`` searches its parameters.

    Attributes:
        function: the decorated function.
        spec: the experiment.
    """

    def __init__(self, function: Callable[..., Any], experiment: Experiment) -> None:
        functools.update_wrapper(self, function)
        self.function, self.spec = function, experiment

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def run(self, **options: Any) -> "Result":
        """Run the experiment on this machine; options as in ``katib_flow.run``."""
        return run(self, **options)

    def start(self, **options: Any) -> "Running":
        """Run the experiment in the background; options as in ``katib_flow.start``."""
        return start(self, **options)

    def _repr_html_(self) -> str:
        return self.spec._repr_html_()

    def to_workflow(self, *, image: str | None = None) -> Any:
        """Compile the experiment to a ``hera.workflows.Workflow``.

        Args:
            image: an image with the function's module and katib-flow; without one, the spec contains the module's code.

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
    """Decorate a function, which takes the parameters and constants by name, to make it an experiment.

    The function returns a number or a dict of metrics, or yields one of these per step.

    Args:
        parameters: ``kf.Float(...)``, ``kf.Int(...)``, ``kf.Categorical(...)`` or ``kf.Ordinal(...)`` by name.
        maximize, minimize: the metric of the objective, or several metrics for a multi-objective search.
        goal: value of the first objective at which the search ends.
        name: name of the experiment; by default derived from the name of the function.
        algorithm: a name, or a mapping with name, seed and settings.
        seed: seed of the algorithm.
        max_trials, parallel_trials: limits on the number of trials, in all and at once.
        arguments: constants by name, which are passed to the function in every trial.
        spec: any other section of the spec: limits, budget, metrics, tracking, argo ...

    Raises:
        InvalidSpec: with every mistake in the arguments, or when the decorator is applied, in the function.
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
    """The module of a function, and the function's qualified name in it.

    Raises:
        InvalidSpec: the object is not a function.
    """
    called = getattr(function, "__qualname__", None)
    if not callable(function) or not isinstance(called, str):
        raise InvalidSpec("", [SpecError("the decorated object", function, "a function defined with def")])
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
    """A section of the spec, extended by the values of separate arguments that are not None."""
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
        what: a function decorated with ``@kf.experiment``, or an experiment, such as from ``kf.load``.
        store, tracking_uri: the store to record in; by default the spec's, or else ``sqlite:///katib_flow.db`` in the
            working directory.
        barrier: suggest only when no trial is running, like iterations on Argo.
        progress: receives the progress; by default a live display on a terminal, and nothing elsewhere.
        warm_start: names or run ids of earlier experiments to learn from, instead of the spec's.

    Raises:
        InvalidSpec: the experiment cannot run as written.
        KatibFlowError: it cannot run here, or ``run`` was called while the worker of a trial imported the module.
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
    """Run an experiment in the background, such as in a notebook, and return a handle to watch and stop it.

    The arguments are those of ``run``, but nothing is displayed. When the program ends, the experiment is interrupted
    cleanly, as by Ctrl-C, and can be resumed.

    Raises:
        InvalidSpec: the experiment cannot run as written; ``wait`` of the handle raises later errors.
        KatibFlowError: ``start`` was called while the worker of a trial imported the module.
    """
    from katib_flow.local.background import Running
    from katib_flow.local.run import check_here

    spec, function, store = _to_run("kf.start", what, store, tracking_uri, warm_start)
    check_here(spec)
    return Running(spec, progress, function=function, store=store, barrier=barrier)


def _to_run(
    called: str, what: object, store: "Store | None", tracking_uri: str | None, warm_start: Sequence[str]
) -> "tuple[Experiment, Callable[..., Any] | None, Store | None]":
    """The experiment to run, its function if that must be sent to the workers, and the store."""
    import os

    from katib_flow.errors import KatibFlowError
    from katib_flow.local.worker import IN_WORKER
    from katib_flow.tracking import Store

    if not isinstance(what, FunctionExperiment | Experiment):
        need = "an experiment: a function decorated with @kf.experiment, or kf.load(path)"
        if isinstance(getattr(what, "__wrapped__", None), FunctionExperiment):
            need += "; move @kf.experiment above the other decorators of this function"
        raise InvalidSpec(called, [SpecError("what", what, need)])
    check_store(called, store, tracking_uri)
    if IN_WORKER in os.environ:
        method = called.removeprefix("kf.")
        raise KatibFlowError(
            f'an experiment was run while a trial imported its module; put {method}() under if __name__ == "__main__":'
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


def check_store(called: str, store: object, tracking_uri: object) -> None:
    """Check the arguments that say where to record.

    Args:
        called: the function that they were given to, for the message.

    Raises:
        InvalidSpec: the store is not a ``Store``, the address is not text, or both are given.
    """
    from katib_flow.tracking import Store

    if store is not None and not isinstance(store, Store):
        need = "a katib_flow.tracking.Store; tracking_uri takes an address"
        raise InvalidSpec(called, [SpecError("store", store, need)])
    if tracking_uri is not None and not isinstance(tracking_uri, str):
        need = "the address of an MLflow store, such as sqlite:///katib_flow.db"
        raise InvalidSpec(called, [SpecError("tracking_uri", tracking_uri, need)])
    if store is not None and tracking_uri is not None:
        raise InvalidSpec(called, [SpecError("tracking_uri", tracking_uri, "no address, because a store is given")])


def _sent(spec: Experiment, function: Callable[..., Any]) -> tuple[Experiment, Callable[..., Any] | None]:
    """The experiment, and the function to send to the workers; None if they can import it.

    A function that is sent is recorded under ``__main__``, which no other process can import, because its own name
    might refer to another function there.
    """
    from katib_flow.trial.functions import plain, refers_to

    function, reference = plain(function), spec.trial.function or ""
    module, _, name = reference.partition(":")
    if module != "__main__" and refers_to(reference, function):
        return spec, None
    trial = spec.trial.model_copy(update={"function": f"__main__:{name}"})
    return spec.model_copy(update={"trial": trial}), function


def parameter_of(called: str, kind: type[Parameter], **fields: Any) -> Any:
    """Build a parameter; fields that are None count as missing.

    Args:
        called: the function that the user called, for messages.

    Raises:
        InvalidSpec: with every mistake in the fields.
    """
    from pydantic import ValidationError

    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise InvalidSpec(called, spec_errors(error, kind, given)) from None


_REQUIRED: Any = None  # missing arguments are reported together with other mistakes, such as names of other tools


def Float(  # noqa: N802 - these four functions act as constructors
    min: float = _REQUIRED,
    max: float = _REQUIRED,
    *,
    step: float | None = None,
    scale: str = "linear",
    when: Any = None,
    **unknown: Any,
) -> FloatParameter:
    """A real number between two bounds, both included.

    Args:
        step: distance of the allowed values, counted from ``min``; by default any value between the bounds is allowed.
        scale: linear, log, logit, normal or lognormal; the prior is uniform on this scale.
        when: values of other parameters, by name, with which this one is active.

    Raises:
        InvalidSpec: with every mistake in the arguments.
    """
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
    """A whole number between two bounds, both included.

    Args:
        step: distance of the allowed values, counted from ``min``; 1 by default.
        scale: linear, log, normal or lognormal; the prior is uniform on this scale.
        when: values of other parameters, by name, with which this one is active.

    Raises:
        InvalidSpec: with every mistake in the arguments.
    """
    return parameter_of("kf.Int", IntParameter, min=min, max=max, step=step, scale=scale, when=when, **unknown)


def Categorical(values: Sequence[Any] = _REQUIRED, *, when: Any = None, **unknown: Any) -> CategoricalParameter:  # noqa: N802
    """A choice from values without an order; ``when`` as in ``kf.Float``."""
    return parameter_of("kf.Categorical", CategoricalParameter, values=values, when=when, **unknown)


def Ordinal(values: Sequence[Any] = _REQUIRED, *, when: Any = None, **unknown: Any) -> OrdinalParameter:  # noqa: N802
    """A choice from values in a meaningful order; ``when`` as in ``kf.Float``."""
    return parameter_of("kf.Ordinal", OrdinalParameter, values=values, when=when, **unknown)
