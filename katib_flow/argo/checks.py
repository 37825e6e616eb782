"""What keeps a good experiment from running on a cluster: found before anything is compiled."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from katib_flow.algorithms.registry import check_algorithm
from katib_flow.errors import InvalidSpec, KatibFlowError, SpecError
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.problems import NOTHING
from katib_flow.stopping import check_stopping

TRIAL_KINDS = ("function", "command", "container")
SOURCES = ("stdout", "file")
_LOCAL_SCHEMES = ("sqlite", "file", "")


def check(experiment: Experiment) -> None:
    """Raise what a user must put right.

    Raises:
        InvalidSpec: with every mistake.
        KatibFlowError: the experiment needs what is not built yet.
    """
    if experiment.trial.kind not in TRIAL_KINDS:
        raise KatibFlowError(f"trial.{experiment.trial.kind}: not yet on Argo; {', '.join(TRIAL_KINDS)} trials work")
    rules = (check_algorithm, check_stopping, _image, _tracking, _trial, _substituted)
    if found := [problem for rule in rules for problem in rule(experiment)]:
        raise InvalidSpec(experiment.name, found)


def _image(experiment: Experiment) -> Iterator[SpecError]:
    kind = experiment.trial.kind
    if kind in ("function", "command") and experiment.argo.image is None:
        need = f"an image that has katib-flow and what the {kind} needs, because the trials are a {kind}"
        yield SpecError("argo.image", NOTHING, need)


def _tracking(experiment: Experiment) -> Iterator[SpecError]:
    uri = experiment.tracking.uri
    if uri is not None and urlsplit(uri).scheme in _LOCAL_SCHEMES:
        need = "the address of an MLflow server (https://...), because pods cannot reach a file on this machine"
        yield SpecError("tracking.uri", uri, f"{need}; left out, it is what the namespace's ConfigMap katib-flow names")


def _trial(experiment: Experiment) -> Iterator[SpecError]:
    metrics, function = experiment.metrics, experiment.trial.function
    if metrics.source not in SOURCES:
        yield SpecError("metrics.source", metrics.source, f"{' or '.join(SOURCES)}; the others are not yet on Argo")
    if experiment.early_stopping is not None:
        yield SpecError("early_stopping", experiment.early_stopping.name, "nothing here; it is not yet on Argo")
    if function is not None and function.startswith("__main__:"):
        yield SpecError("trial.function", function, "a function in a module that the image has: put it into a file")
    path = PurePosixPath(metrics.path or "x")
    if experiment.trial.container and metrics.source == "file" and (".." in path.parts or str(path.parent) == "/"):
        need = "a file in a directory of its own, without '..', because the pod's containers share the directory"
        yield SpecError("metrics.path", metrics.path, need)


def _substituted(experiment: Experiment) -> Iterator[SpecError]:
    """Texts that stand in the manifest itself, where Argo would substitute them."""
    argo, container = experiment.argo, experiment.trial.container
    texts = {"argo.image": argo.image, "argo.namespace": argo.namespace, "argo.service_account": argo.service_account}
    texts |= {"tracking.uri": experiment.tracking.uri}
    if container:
        texts |= {"trial.container.image": container.image}
        for kind, amounts in container.resources.items():
            texts |= {f"trial.container.resources.{kind}.{name}": f"{name}{amount}" for name, amount in amounts.items()}
    for where, text in texts.items():
        if text and ("{{" in text or (where.startswith("trial") and "${" in text)):
            yield SpecError(where, text, "text without placeholders: it is the same for every trial")
