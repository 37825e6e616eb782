"""Preview the beginning of an experiment without running anything: ``katib-flow run SPEC --dry-run``.

The first suggestions come from the algorithm itself, which is asked with an empty history for as many trials as would
start at once; external programs and services are asked, too. What would run for each suggestion comes from the code
that runs trials. No trial starts, no store is created, and no file is written. Values that are known only once an
experiment begins are in angle brackets.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katib_flow.algorithms.auto import settled
from katib_flow.effects import out_of_space
from katib_flow.errors import InvalidSpec, KatibFlowError, NoStore, SpecError
from katib_flow.history import History, Kind, Suggestion
from katib_flow.local.run import check_here
from katib_flow.local.spool import DIRECTORY
from katib_flow.local.worker import IN_WORKER, look_for_modules_in
from katib_flow.loop import proposed, verdict
from katib_flow.metrics.katib import reporting_to
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.load import Note
from katib_flow.tracking import Store, located
from katib_flow.tracking.faults import shown
from katib_flow.trial.functions import trial_function
from katib_flow.trial.protocol import TrialDirectory, called_with, substitutions, trial_name
from katib_flow.trial.runner import argv_of, environment_of
from katib_flow.trial.tracked import Tracked

RUN, MLFLOW_EXPERIMENT, FREE_PORT = "<run>", "<its id>", "<free port>"
_NO_PORT = 65536  # stands in for a port that is chosen when the trial starts
HERE = ("function", "command")


@dataclass(frozen=True)
class Preview:
    """The beginning of an experiment.

    Attributes:
        experiment: the experiment, with auto replaced by the chosen algorithm.
        asked: the external program or service that was asked for suggestions; "" for any other algorithm.
        store: address of the store that it would be recorded in; "" if only the cluster knows it.
        there: True if the file of that store exists; None if the store is not a file.
        trials: what would run for each suggestion, as plain data.
    """

    experiment: Experiment
    asked: str
    store: str
    there: bool | None
    trials: tuple[dict[str, Any], ...]

    @property
    def on_a_cluster(self) -> bool:
        """True if its trials run only on a cluster."""
        return self.experiment.trial.kind not in HERE

    def to_dict(self) -> dict[str, Any]:
        """The preview as plain data, for JSON."""
        experiment, algorithm = self.experiment, self.experiment.algorithm
        return {
            "name": experiment.name,
            "objective": [objective.model_dump() for objective in experiment.objective],
            "algorithm": {"name": algorithm.name, "seed": algorithm.seed, "why": algorithm.why, "asked": self.asked},
            "limits": experiment.limits.model_dump(),
            "recorded": {"store": self.store, "there": self.there, "experiment": experiment.tracking.experiment},
            "where": "cluster" if self.on_a_cluster else "here",
            "trials": list(self.trials),
        }


def preview(experiment: Experiment, tracking_uri: str | None = None) -> Preview:
    """Preview the beginning of an experiment on this machine.

    Args:
        tracking_uri: URI of the store, instead of the spec's.

    Raises:
        InvalidSpec: the experiment cannot run as written.
        KatibFlowError: the algorithm failed, or an experiment that ``warm_start`` names cannot be read.
    """
    here = experiment.trial.kind in HERE
    check_here(experiment, trials=here)
    experiment = settled(experiment)
    if here:
        _check_function(experiment)
    given = tracking_uri or experiment.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri, path = located(given) if given or here else ("", None)
    count = verdict(experiment, History()).may_start
    answered = proposed(experiment, History(), count, earlier=_earlier(experiment, uri, path))
    trials = tuple(_planned(experiment, suggestion, shown(uri)) for suggestion in answered.suggestions)
    return Preview(experiment, _asked(experiment), shown(uri), None if path is None else path.exists(), trials)


def _check_function(experiment: Experiment) -> None:
    """Find the function as a worker would; output of its module during the import goes to stderr."""
    before = os.environ.get(IN_WORKER)
    os.environ[IN_WORKER] = "1"  # refuse a module that runs an experiment on import, as a worker does
    try:
        with redirect_stdout(sys.stderr):
            look_for_modules_in(experiment.base)
            trial_function(experiment)
    except SpecError as problem:
        raise InvalidSpec(experiment.name, [problem]) from problem
    finally:
        if before is None:
            del os.environ[IN_WORKER]


def _earlier(experiment: Experiment, uri: str, path: Path | None) -> History:
    """The trials of earlier experiments that the algorithm learns from; a missing store is not created.

    Raises:
        NoStore: ``warm_start`` names experiments, but the store does not exist.
    """
    if not experiment.warm_start:
        return History()
    if not uri or (path is not None and not path.exists()):
        where = f"no store exists at {path}" if path else "no store is known here"
        raise NoStore(f"warm_start: {where}, so {', '.join(experiment.warm_start)} cannot be read")
    return Store(uri, experiment.tracking.experiment).earlier(experiment)


def warm_start_here(experiment: Experiment) -> list[Note]:
    """Notes on the experiments of ``warm_start`` whose trials do not all fit the search space.

    Only a store that is a file on this machine is read. It is not created if missing, and no server is asked.
    """
    uri, path = located(experiment.tracking.uri)
    if not experiment.warm_start or path is None:
        return []
    if not path.exists():
        return [
            Note("warm_start", f"no store exists at {path}, so {', '.join(experiment.warm_start)} cannot be checked")
        ]
    notes: list[Note] = []
    try:
        store = Store(uri, experiment.tracking.experiment)
        for name in experiment.warm_start:
            record = store.find(name)
            notes += out_of_space(experiment, record.name, store.history(record).trials)
    except KatibFlowError as problem:
        notes.append(Note("warm_start", str(problem)))
    return notes


def _asked(experiment: Experiment) -> str:
    spec = experiment.algorithm
    if spec.service is not None:
        return f"algorithm.service: {spec.service.address}"
    return "" if spec.command is None else f"algorithm.command: {' '.join(spec.command)}"


def _planned(experiment: Experiment, suggestion: Suggestion, uri: str) -> dict[str, Any]:
    """What would run for one suggestion."""
    about: dict[str, Any] = {"trial": suggestion.id, "kind": str(suggestion.origin.kind)}
    about["parameters"] = dict(suggestion.assignment)
    if suggestion.budget is not None:
        about["budget"] = suggestion.budget
    if experiment.architecture is not None:
        about["network"] = _network(experiment, suggestion)
    if experiment.trial.kind not in HERE:
        return about | _on_a_cluster(experiment, suggestion, uri)
    here = TrialDirectory(Path.cwd() / DIRECTORY / RUN / suggestion.id)
    tracked = Tracked(uri, MLFLOW_EXPERIMENT, f"<run of {suggestion.id}>")
    if experiment.trial.command is not None:
        about["command"] = argv_of(experiment, suggestion, here, tracked)
    else:
        about |= {"function": experiment.trial.function, "arguments": called_with(experiment, suggestion)}
    environment = environment_of(experiment, suggestion, here, tracked, _reporting(experiment, suggestion))
    return about | {"working_directory": str(Path.cwd()), "environment": _changes({**environment, IN_WORKER: "1"})}


def _reporting(experiment: Experiment, suggestion: Suggestion) -> dict[str, str]:
    """The environment variables with the address for reports to Katib's API; empty for other sources of metrics."""
    if experiment.metrics.source != "katib":
        return {}
    variables = reporting_to(trial_name(experiment, suggestion), experiment.metrics.port or _NO_PORT)
    return {name: text.replace(str(_NO_PORT), FREE_PORT) for name, text in variables.items()}


def _changes(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The variables in which an environment differs from this process; None for a variable that is removed."""
    changed = {name: text for name, text in environment.items() if os.environ.get(name) != text}
    return dict(sorted({**changed, **dict.fromkeys(os.environ.keys() - environment.keys())}.items()))


def _network(experiment: Experiment, suggestion: Suggestion) -> dict[str, Any] | None:
    """The size of the network that a trial evaluates; None for a segment, or if the network is invalid."""
    from katib_flow.models.topology import Topology

    if suggestion.topology is None or suggestion.origin.kind is Kind.SEGMENT:
        return None
    try:
        topology = Topology.parse(suggestion.topology)
    except KatibFlowError:  # the trial would fail with the reason
        return None
    return {"parameters": topology.parameters, "flops": topology.flops, "hash": topology.hash[:8]}


def _on_a_cluster(experiment: Experiment, suggestion: Suggestion, uri: str) -> dict[str, Any]:
    """The container, object or template of a trial, with its values filled in."""
    from katib_flow.argo.steps.manifests import filled

    kind = experiment.trial.kind
    directory = TrialDirectory(Path("<directory in the pod>"))
    values = substitutions(experiment, suggestion, directory, run_id=f"<run of {suggestion.id}>", uri=uri)
    template = getattr(experiment.trial, kind).model_dump(mode="json", exclude_defaults=True)
    return {kind: filled(template, values)}
