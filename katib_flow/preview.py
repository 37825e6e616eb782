"""What an experiment would begin with, and nothing of it done: ``katib-flow run SPEC --dry-run``.

The first suggestions come from the algorithm itself, asked with an empty history for as many trials as would start at
once; a program or a service that suggests is asked like any other. What runs for each comes from the code that would
run it. No trial starts, no store is made, and no file is written; what is known only when an experiment begins stands
in angle brackets.
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
_NO_PORT = 65536  # stands for one that is chosen when the trial starts
HERE = ("function", "command")


@dataclass(frozen=True)
class Preview:
    """What an experiment would begin with.

    Attributes:
        experiment: its algorithm settled.
        asked: the program or service that was asked for the suggestions; "" where katib-flow's own algorithm was.
        store: the address of the store that it would be recorded in; "" where only the cluster knows it.
        there: whether the file of that store is there; None where it is no file.
        trials: what would run for each suggestion, as plain data.
    """

    experiment: Experiment
    asked: str
    store: str
    there: bool | None
    trials: tuple[dict[str, Any], ...]

    @property
    def on_a_cluster(self) -> bool:
        """Whether its trials run on a cluster only."""
        return self.experiment.trial.kind not in HERE

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        experiment, algorithm = self.experiment, self.experiment.algorithm
        return {
            "name": experiment.name,
            "objective": [each.model_dump() for each in experiment.objective],
            "algorithm": {"name": algorithm.name, "seed": algorithm.seed, "why": algorithm.why, "asked": self.asked},
            "limits": experiment.limits.model_dump(),
            "recorded": {"store": self.store, "there": self.there, "experiment": experiment.tracking.experiment},
            "where": "cluster" if self.on_a_cluster else "here",
            "trials": list(self.trials),
        }


def preview(experiment: Experiment, tracking_uri: str | None = None) -> Preview:
    """What an experiment would begin with on this machine.

    Args:
        tracking_uri: of the store, in the place of the spec's.

    Raises:
        InvalidSpec: it cannot run as it is written.
        KatibFlowError: what suggests fails, or an earlier experiment that it learns from is not there.
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
    trials = tuple(_planned(experiment, each, shown(uri)) for each in answered.suggestions)
    return Preview(experiment, _asked(experiment), shown(uri), None if path is None else path.exists(), trials)


def _check_function(experiment: Experiment) -> None:
    """Find the function where a worker would; what its module prints while it is imported goes to stderr."""
    before = os.environ.get(IN_WORKER)
    os.environ[IN_WORKER] = "1"  # a module that runs an experiment when it is imported is refused, as in a worker
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
    """The trials that the algorithm learns from; no store is made to find that there are none."""
    if not experiment.warm_start:
        return History()
    if not uri or (path is not None and not path.exists()):
        raise NoStore(f"warm_start: there is no store with {', '.join(experiment.warm_start)} at {path or 'hand'}")
    return Store(uri, experiment.tracking.experiment).earlier(experiment)


def warm_start_here(experiment: Experiment) -> list[Note]:
    """Of each experiment to start from, how many trials fit, where that is not all of them.

    A store that is a file on this machine is looked into; none is made, and no server is asked.
    """
    uri, path = located(experiment.tracking.uri)
    if not experiment.warm_start or path is None:
        return []
    if not path.exists():
        return [Note("warm_start", f"found no store at {path} to look for {', '.join(experiment.warm_start)} in")]
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
    """Where a trial reports as to Katib; nothing where it does not."""
    if experiment.metrics.source != "katib":
        return {}
    variables = reporting_to(trial_name(experiment, suggestion), experiment.metrics.port or _NO_PORT)
    return {name: text.replace(str(_NO_PORT), FREE_PORT) for name, text in variables.items()}


def _changes(environment: Mapping[str, str]) -> dict[str, str | None]:
    """What an environment has that this process has not, or other than it; None for what is taken from it."""
    changed = {name: text for name, text in environment.items() if os.environ.get(name) != text}
    return dict(sorted({**changed, **dict.fromkeys(os.environ.keys() - environment.keys())}.items()))


def _network(experiment: Experiment, suggestion: Suggestion) -> dict[str, Any] | None:
    """The size of the network that a trial evaluates; None where it trains a part of a supernet, or there is none."""
    from katib_flow.models.topology import Topology

    if suggestion.topology is None or suggestion.origin.kind is Kind.SEGMENT:
        return None
    try:
        topology = Topology.parse(suggestion.topology)
    except KatibFlowError:  # the trial would fail, and say why
        return None
    return {"parameters": topology.parameters, "flops": topology.flops, "hash": topology.hash[:8]}


def _on_a_cluster(experiment: Experiment, suggestion: Suggestion, uri: str) -> dict[str, Any]:
    """The container, object or template of a trial, with its values."""
    from katib_flow.argo.steps.manifests import filled

    kind = experiment.trial.kind
    place = TrialDirectory(Path("<directory in the pod>"))
    values = substitutions(experiment, suggestion, place, run_id=f"<run of {suggestion.id}>", uri=uri)
    template = getattr(experiment.trial, kind).model_dump(mode="json", exclude_defaults=True)
    return {kind: filled(template, values)}
