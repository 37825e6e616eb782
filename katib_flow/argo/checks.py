"""Check, before compiling, that a valid experiment can also run on a cluster."""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from katib_flow.algorithms.registry import check_algorithm, find_algorithm
from katib_flow.argo import gjson
from katib_flow.argo.cluster import WORKFLOW
from katib_flow.argo.steps.manifests import kind_of_trial
from katib_flow.argo.steps.sidecar import READ_BY_SIDECAR, with_sidecar
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spaces import check_architecture
from katib_flow.spec.argo import texts
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.parameters import CategoricalParameter, OrdinalParameter
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.rules import broken
from katib_flow.spec.template import Resources, placeholders, placeholders_in
from katib_flow.spec.trainer import TRAINER
from katib_flow.stopping import check_stopping
from katib_flow.stopping.registry import rule_of
from katib_flow.tracking.faults import has_password, shown
from katib_flow.trial.collecting import COLLECTOR_KNOWS

_WAITS = ("hyperband",)
_LOCAL_SCHEMES = ("sqlite", "file", "")


def check(experiment: Experiment) -> None:
    """Check that an experiment can run on a cluster.

    Raises:
        InvalidSpec: it cannot; the error lists every problem.
    """
    rules = (
        check_architecture,
        check_algorithm,
        check_stopping,
        _plugins,
        _ports,
        _image,
        _tracking,
        _function,
        _metrics,
        _resource,
        _lanes,
        _substituted,
        _handed_on,
    )
    if problems := list(broken(experiment, rules)):
        raise InvalidSpec(experiment.name, problems)


def _plugins(experiment: Experiment) -> Iterator[SpecError]:
    """Algorithms and stopping rules come from installed packages: a pod lacks those that a local script registered."""
    algorithm = find_algorithm(experiment.algorithm.registered_name)
    if algorithm is not None:
        yield from _installed("algorithm.name", experiment.algorithm.name, algorithm.propose, "katib_flow.algorithms")
    stopping = experiment.early_stopping
    if stopping is not None and (rule := rule_of(experiment)) is not None:
        yield from _installed("early_stopping.name", stopping.name, rule.judge, "katib_flow.stopping")


def _installed(where: str, name: str, registered: Callable[..., Any], group: str) -> Iterator[SpecError]:
    home = registered.__module__
    if not any(home.startswith(f"{module}.") or home == module for module in ("katib_flow", *_entry_modules(group))):
        need = f"a name that the pods know: one of katib-flow's own, or an installed package's entry point {group}"
        yield SpecError(where, name, f"{need}; this one was registered by {home}, on this machine only")


def _ports(experiment: Experiment) -> Iterator[SpecError]:
    """Two services in the pod of one step share the loopback interface, so their ports differ."""
    algorithm, stopping = experiment.algorithm.service, experiment.early_stopping
    other = stopping.service if stopping else None
    if algorithm and other and algorithm.image and other.image and algorithm.port == other.port:
        need = "a port other than that of algorithm.service, because both run in one pod"
        yield SpecError("early_stopping.service.port", other.port, need)


def _entry_modules(group: str) -> list[str]:
    return [point.module for point in entry_points(group=group)]


def _image(experiment: Experiment) -> Iterator[SpecError]:
    trial = experiment.trial
    runs_in_own_image = bool(trial.code) or trial.function == TRAINER
    if trial.kind in ("function", "command") and not runs_in_own_image and experiment.argo.image is None:
        need = f"an image with katib-flow and the dependencies of trial.{trial.kind}"
        yield SpecError("argo.image", NOTHING, need + ("; or trial.code" if trial.kind == "function" else ""))
    if trial.kind == "container" and experiment.argo.trial.resources:
        need = "no value, because a container trial takes its resources from trial.container.resources"
        yield SpecError("argo.trial.resources", experiment.argo.trial.resources, need)


def _tracking(experiment: Experiment) -> Iterator[SpecError]:
    uri = experiment.tracking.uri
    if uri is not None and urlsplit(uri).scheme in _LOCAL_SCHEMES:
        need = "the address of an MLflow server (https://...), because pods cannot reach a file on this machine"
        yield SpecError(
            "tracking.uri", uri, f"{need}; without it, the namespace's ConfigMap katib-flow names the server"
        )
    if uri is not None and has_password(uri):
        need = "an address without a password, because many people can read a Workflow; put MLFLOW_TRACKING_USERNAME "
        need += "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, into the namespace's Secret katib-flow"
        yield SpecError("tracking.uri", shown(uri), need)


def _function(experiment: Experiment) -> Iterator[SpecError]:
    function = experiment.trial.function
    if function is not None and function.startswith("__main__:") and not experiment.trial.code:
        yield SpecError("trial.function", function, "a function in a module file that the image contains")


def _metrics(experiment: Experiment) -> Iterator[SpecError]:
    """The metrics come from a source that the trial's pod can read."""
    metrics, kind = experiment.metrics, experiment.trial.kind
    if kind == "template" and metrics.source not in ("stdout", "push"):
        need = "stdout or push, because katib-flow cannot read files in the pods of a template"
        yield SpecError("metrics.source", metrics.source, need)
    yield from _collector(experiment)
    path = PurePosixPath(metrics.path or "x")
    if metrics.source not in ("file", "tensorboard", "custom") or kind not in ("container", "resource"):
        return
    if metrics.source == "custom" and metrics.path is None:
        return
    folder = path.parent if metrics.source == "file" else path
    if ".." in path.parts or str(folder) == "/":
        what = "a file in a directory of its own" if metrics.source == "file" else "a directory"
        need = f"{what}, without '..', because the pod's containers share the directory"
        yield SpecError("metrics.path", metrics.path, need)
    elif kind == "resource" and not path.is_absolute():
        yield SpecError(
            "metrics.path", metrics.path, "an absolute path, because the object's pods have no trial directory"
        )


def _collector(experiment: Experiment) -> Iterator[SpecError]:
    """A custom collector is one that the trials' pods can run."""
    metrics, kind = experiment.metrics, experiment.trial.kind
    if metrics.source != "custom":
        return
    if kind in ("container", "resource") and metrics.container is None:
        yield SpecError("metrics.container", NOTHING, f"the collector's image, because the trials are a {kind}")
    elif kind == "resource" and metrics.container and metrics.container.starts == "after-trial":
        need = "with-trial, because nothing in the object's pods tells the collector that the trial has ended"
        yield SpecError("metrics.container.starts", metrics.container.starts, need)
    elif kind in ("function", "command") and metrics.command is None:
        need = f"a program in argo.image, because a {kind} trial has no container for metrics.container to join"
        yield SpecError("metrics.command", NOTHING, need)
    if metrics.container is not None and metrics.container.command is None and kind == "container":
        for where, name in placeholders_in(metrics.container.model_dump(mode="json"), "metrics.container"):
            if name not in COLLECTOR_KNOWS:
                known = ", ".join(COLLECTOR_KNOWS)
                need = f"one of {known}, because without metrics.container.command all trials share its arguments"
                yield SpecError(where, f"${{{name}}}", need)


def _resource(experiment: Experiment) -> Iterator[SpecError]:
    resource = experiment.trial.resource
    if resource is None:
        return
    for name in ("success_condition", "failure_condition"):
        condition: str = getattr(resource, name)
        try:
            if condition:
                gjson.check(condition)
        except gjson.BadPath as error:
            yield SpecError(f"trial.resource.{name}", condition, f"a GJSON path ({error})")
    if experiment.metrics.source in READ_BY_SIDECAR:
        try:
            with_sidecar(resource.manifest, experiment, resource.primary_container, "")
        except KatibFlowError as error:
            yield SpecError("metrics.source", experiment.metrics.source, f"stdout or push, because of {error}")


def _lanes(experiment: Experiment) -> Iterator[SpecError]:
    """A lane without a suggestion ends, so the algorithm must not wait for the trials of other lanes."""
    entry = find_algorithm(experiment.algorithm.registered_name)
    if experiment.argo.mode == "lanes" and entry is not None and entry.name in _WAITS:
        need = f"barrier, because {entry.name} waits for whole rungs; in lanes mode, use asha, bohb or mobster"
        yield SpecError("argo.mode", "lanes", need)


def _substituted(experiment: Experiment) -> Iterator[SpecError]:
    """Text of the manifest itself contains no placeholders, which Argo would substitute."""
    fields = [(f"argo.{path}", text) for path, text in texts(experiment.argo)]
    fields += [("tracking.uri", shown(experiment.tracking.uri or ""))]
    if container := experiment.trial.container:
        fields += [
            ("trial.container.image", container.image),
            ("trial.container.working_dir", container.working_dir or ""),
        ]
        fields += _amounts("trial.container", container.resources)
    if collector := experiment.metrics.container:
        at = "metrics.container"
        fields += [(f"{at}.image", collector.image), (f"{at}.working_dir", collector.working_dir or "")]
        fields += _amounts(at, collector.resources)
    for where, text in fields:
        if "{{" in text or (where.startswith(("trial", "metrics")) and "${" in text):
            yield SpecError(where, text, "text without placeholders, because it is the same for every trial")
    if collector is not None and collector.command is None:
        words = [(f"metrics.container.args[{position}]", text) for position, text in enumerate(collector.args)]
        words += [(f"metrics.container.env.{name}", f"{name}{text}") for name, text in collector.env.items()]
        for where, text in words:
            if "{{" in text:
                need = "text without {{, which Argo would substitute, or a metrics.container.command"
                yield SpecError(where, text, need)


def _amounts(at: str, resources: Resources) -> list[tuple[str, str]]:
    """Return path and text of each resource amount."""
    return [
        (f"{at}.resources.{kind}.{name}", f"{name}{amount}")
        for kind, amounts in resources.items()
        for name, amount in amounts.items()
    ]


def _handed_on(experiment: Experiment) -> Iterator[SpecError]:
    """Values passed to a trial that is a Workflow contain no ``{{``, which Argo would substitute."""
    if kind_of_trial(experiment) != WORKFLOW:
        return
    named = {name for _, name in placeholders(experiment.trial)}
    passed = [(f"trial.arguments.{name}", name, value) for name, value in experiment.trial.arguments.items()]
    for name, parameter in experiment.parameters.items():
        if isinstance(parameter, CategoricalParameter | OrdinalParameter):
            values = enumerate(parameter.values())
            passed += [(f"parameters.{name}.values[{position}]", name, value) for position, value in values]
    for where, name, value in passed:
        if name in named and isinstance(value, str) and "{{" in value:
            yield SpecError(where, value, "text without {{, which Argo would substitute in a trial that is a Workflow")
