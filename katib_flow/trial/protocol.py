"""The interface of a trial in any language: environment variables and one JSON file.

The file named by ``KATIB_FLOW_TRIAL_FILE`` holds ``trial``, ``experiment``, ``parameters``, ``arguments`` (its
constants), ``budget``, ``origin`` (the ``kind`` of the suggestion and its ``parents``), ``algorithm`` (``name``,
``settings``), ``checkpoint_dir``, ``parent_checkpoint_dir`` (null if it has no parent), ``report_file``, to which the
trial may append metrics as JSON lines instead of printing them, and ``model_dir`` (null if no architecture is
searched): the directory with ``topology.json`` and, if weights are inherited, ``weights.safetensors``, which the trial
replaces with its trained weights.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from katib_flow.history import Suggestion, Value
from katib_flow.trial.tracked import Tracked, isolated

if TYPE_CHECKING:  # a trial that only reports a metric loads no spec
    from katib_flow.spec.experiment import Experiment

TRIAL_FILE = "KATIB_FLOW_TRIAL_FILE"
REPORT_FILE = "KATIB_FLOW_REPORT_FILE"
ENDED_FILE = "KATIB_FLOW_ENDED"  # for collectors: a file that exists once the trial's program has ended
COLLECT_SECONDS = 300.0  # how long a collector may run after the trial has ended
USER_FAILURE = 42  # exit code of the train step when the user's program failed


@dataclass(frozen=True)
class TrialDirectory:
    """The files of one trial on this machine."""

    path: Path
    parent: Path | None = None

    @property
    def trial_file(self) -> Path:
        """The description of the trial, for its program."""
        return self.path / "trial.json"

    @property
    def report_file(self) -> Path:
        """Metrics that the program reports, as JSON lines."""
        return self.path / "report.jsonl"

    @property
    def ended_file(self) -> Path:
        """A file that exists once the program has ended, for collectors."""
        return self.path / "ended"

    @property
    def log(self) -> Path:
        """The output of the program."""
        return self.path / "log.txt"

    @property
    def result(self) -> Path:
        """The outcome, until MLflow has it."""
        return self.path / "result.json"

    @property
    def checkpoint(self) -> Path:
        """The directory for checkpoints, which a retry finds again."""
        return self.path / "checkpoint"

    @property
    def model(self) -> Path:
        """The topology, drawing and weights (NAS), which become artifacts."""
        return self.path / "model"

    @property
    def parent_model(self) -> Path | None:
        """The model of the parent trial, if it has one."""
        return self.parent / "model" if self.parent else None

    @property
    def parent_checkpoint(self) -> Path | None:
        """The checkpoints of the parent trial, if it has one."""
        return self.parent / "checkpoint" if self.parent else None

    def create(self, experiment: "Experiment", suggestion: Suggestion) -> None:
        """Create the directory, write the trial file, and delete the reports of an earlier attempt."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.checkpoint.mkdir(exist_ok=True)
        for stale in (self.report_file, self.log, self.result, self.ended_file):
            stale.unlink(missing_ok=True)
        content = {
            "trial": suggestion.id,
            "experiment": experiment.name,
            "parameters": assigned(experiment, suggestion),
            "arguments": experiment.trial.arguments,
            "budget": suggestion.budget,
            "origin": suggestion.origin.to_dict(),
            "algorithm": {"name": experiment.algorithm.name, "settings": dict(experiment.algorithm.settings)},
            "checkpoint_dir": str(self.checkpoint),
            "parent_checkpoint_dir": str(self.parent_checkpoint) if self.parent_checkpoint else None,
            "report_file": str(self.report_file),
            "model_dir": str(self.model) if experiment.architecture is not None else None,
        }
        self.trial_file.write_text(json.dumps(content))

    def environment(self, extra: Mapping[str, str], tracked: Tracked | None = None) -> dict[str, str]:
        """The environment of the program: that of this process, MLflow's variables, ``extra`` and the trial's paths."""
        paths = {TRIAL_FILE: str(self.trial_file), REPORT_FILE: str(self.report_file)}
        return {**isolated({**os.environ, "PYTHONUNBUFFERED": "1"}, tracked, extra), **paths}


def model_files(directory: Path) -> dict[str, Path]:
    """The files of a trial's model by the names of their artifacts; empty if it has no model."""
    return {path.name: path for path in sorted(directory.glob("*")) if path.suffix in (".json", ".svg", ".safetensors")}


def assigned(experiment: "Experiment", suggestion: Suggestion) -> dict[str, Value]:
    """The parameters that a trial's program gets, including the budget (an int if it is a whole number).

    They do not include decisions about the architecture: the program gets the resulting topology.
    """
    values = {name: value for name, value in suggestion.assignment.items() if name in experiment.parameters}
    if experiment.budget and suggestion.budget is not None:
        budget = suggestion.budget
        values[experiment.budget.parameter] = int(budget) if float(budget).is_integer() else budget
    return values


def trial_name(experiment: "Experiment", suggestion: Suggestion) -> str:
    """The name of a trial, unique among experiments with different names."""
    return f"{experiment.name}-{suggestion.id}"


def called_with(experiment: "Experiment", suggestion: Suggestion) -> dict[str, Any]:
    """The keyword arguments of a trial's function: the constants of all trials, and this trial's parameters."""
    return {**experiment.trial.arguments, **assigned(experiment, suggestion)}


def substitutions(
    experiment: "Experiment", suggestion: Suggestion, directory: TrialDirectory, *, run_id: str = "", uri: str = ""
) -> dict[str, Value]:
    """The values of ``${...}`` in a trial, by name.

    Args:
        run_id, uri: the trial's MLflow run and its store, for a trial that logs to them.
    """
    return called_with(experiment, suggestion) | {
        "trial.model_dir": str(directory.model),
        "trial.id": suggestion.id,
        "trial.name": trial_name(experiment, suggestion),
        "trial.namespace": experiment.argo.namespace or "default",
        "trial.directory": str(directory.path),
        "trial.checkpoint_dir": str(directory.checkpoint),
        "trial.parent_checkpoint_dir": str(directory.parent_checkpoint or ""),
        "trial.file": str(directory.trial_file),
        "trial.run_id": run_id,
        "tracking.uri": uri,
        "experiment.name": experiment.name,
    }
