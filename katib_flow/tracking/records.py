"""What the rest of the package says to ``tracking`` and hears from it, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from katib_flow.history import Metric, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking.lease import Lease


class Status(StrEnum):
    """Where an experiment stands.

    SUCCEEDED: its goal or its limits were reached. STOPPED: the user asked for the end. INTERRUPTED: the process that
    drove it went away; ``resume`` goes on. RUNNING and PAUSED are not final.
    """

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        return self not in (Status.RUNNING, Status.PAUSED)


@dataclass(frozen=True)
class Record:
    """An experiment as recorded: its MLflow parent run.

    Attributes:
        reason: why it ended, or what else a reader should know.
        started, ended: seconds since the epoch, to the millisecond.
        artifact_uri: where the artifacts of the parent run are.
        key: the idempotency key that ``Store.create`` was given, else "".
        lease: who runs it; None where nobody does, or nobody says.
    """

    run_id: str
    name: str
    experiment: Experiment
    status: Status
    reason: str
    started: float
    ended: float | None
    artifact_uri: str
    mlflow_experiment_id: str
    key: str = ""
    lease: Lease | None = None


@dataclass(frozen=True)
class Control:
    """What a user asks of a running experiment: tags of the parent run, written by the command line, read by the loop.

    Attributes:
        max_trials: in the place of ``limits.max_trials``; None leaves the spec's.
        timeout: in the place of ``limits.timeout``, in seconds.
        spent, resumed: seconds for which the experiment had run when it last went on, and when that was, in seconds
            since the epoch; 0 and None where it has never stopped.
    """

    stop: bool = False
    pause: bool = False
    max_trials: int | None = None
    timeout: float | None = None
    spent: float = 0.0
    resumed: float | None = None

    def most_trials(self, experiment: Experiment) -> int | None:
        """How many trials may run in all; None for any number."""
        return experiment.limits.max_trials if self.max_trials is None else self.max_trials

    def longest_seconds(self, experiment: Experiment) -> float | None:
        """For how long it may run in all; None for any time."""
        return experiment.limits.timeout if self.timeout is None else self.timeout

    def running_seconds(self, record: Record, now: float) -> float:
        """For how long an experiment has run; the time that it lay still before a resume is not of it."""
        return self.spent + max(0.0, now - (self.resumed or record.started))


@dataclass(frozen=True)
class Change:
    """What is new about one trial.

    Attributes:
        trial: as it stands now; its ``run_id`` is "" where the caller knows of none.
        metrics: reported since the last change; a vector is kept as an artifact.
        log: file to keep as the artifact ``log.txt``; left out where it is empty or gone.
        artifacts: other files to keep, artifact path -> local file or directory.
    """

    trial: Trial
    metrics: tuple[Metric, ...] = ()
    log: Path | None = None
    artifacts: Mapping[str, Path] = field(default_factory=dict[str, Path])
