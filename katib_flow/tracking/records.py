"""What is kept of an experiment, and what is new about a trial."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from katib_flow.history import Metric, Trial
from katib_flow.spec.experiment import Experiment


class Status(StrEnum):
    """Where an experiment stands. SUCCEEDED: it ended by its goal, its limits, or a used-up space."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Record:
    """An experiment as recorded: its MLflow parent run.

    Attributes:
        key: what ``create`` was given to be idempotent by.
        started, ended: seconds since the epoch.
    """

    run_id: str
    name: str
    experiment: Experiment
    status: Status
    reason: str
    started: float
    ended: float | None
    mlflow_experiment_id: str
    artifact_uri: str
    key: str = ""


@dataclass(frozen=True)
class Control:
    """Run-time knobs, tags of the parent run: users write them, the loop reads them.

    Attributes:
        max_trials: replaces ``limits.max_trials``.
        deadline: seconds since the epoch.
    """

    stop: bool = False
    pause: bool = False
    max_trials: int | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Change:
    """What is new about one trial.

    Attributes:
        trial: as it stands now; ``run_id`` is empty where it is not recorded yet.
        metrics: reported since the last change.
        log: file to keep as ``log.txt``; an empty one is not kept.
        artifacts: other files to keep, by their path among the artifacts.
    """

    trial: Trial
    metrics: tuple[Metric, ...] = ()
    log: Path | None = None
    artifacts: Mapping[str, Path] = field(default_factory=dict[str, Path])
