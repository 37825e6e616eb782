"""The frozen data that the rest of the package exchanges with ``tracking``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from katib_flow.history import Metric, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking.lease import Lease


class Status(StrEnum):
    """The status of an experiment.

    SUCCEEDED: it reached its goal or its limits. STOPPED: the user stopped it. INTERRUPTED: the process that ran it
    was interrupted or has disappeared; ``resume`` continues it. RUNNING and PAUSED are not final.
    """

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"

    @property
    def final(self) -> bool:
        """True if the experiment has ended, unless it is resumed."""
        return self not in (Status.RUNNING, Status.PAUSED)


@dataclass(frozen=True)
class Record:
    """An experiment as recorded: its MLflow parent run.

    Attributes:
        reason: why it ended, or other information about its status.
        started, ended: seconds since the epoch, to the millisecond.
        artifact_uri: the address of the artifacts of the parent run.
        key: the idempotency key passed to ``Store.create``, or "".
        lease: the process that runs it; None if it has no valid lease.
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
    """A user's requests to an experiment: tags of the parent run, written by the command line and read by the loop.

    Attributes:
        max_trials: replaces ``limits.max_trials``; None for that of the spec.
        timeout: replaces ``limits.timeout``, in seconds; None for that of the spec.
        spent: how long the experiment had run when it was last resumed, in seconds; 0 if it never was.
        resumed: when it was last resumed, in seconds since the epoch; None if it never was.
    """

    stop: bool = False
    pause: bool = False
    max_trials: int | None = None
    timeout: float | None = None
    spent: float = 0.0
    resumed: float | None = None

    def most_trials(self, experiment: Experiment) -> int | None:
        """The total number of trials that may run; None for no limit."""
        return experiment.limits.max_trials if self.max_trials is None else self.max_trials

    def longest_seconds(self, experiment: Experiment) -> float | None:
        """The total time for which the experiment may run, in seconds; None for no limit."""
        return experiment.limits.timeout if self.timeout is None else self.timeout

    def running_seconds(self, record: Record, now: float) -> float:
        """How long an experiment has run, in seconds, without the pauses before it was resumed.

        Args:
            now: seconds since the epoch.
        """
        return self.spent + max(0.0, now - (self.resumed or record.started))


@dataclass(frozen=True)
class Change:
    """A change of one trial.

    Attributes:
        trial: its new state; its ``run_id`` is "" if the caller does not know it.
        metrics: the metrics since the last change; vectors are stored as an artifact.
        log: the file to store as the artifact ``log.txt``; skipped if it is empty or missing.
        artifacts: other files to store, artifact path -> local file or directory.
    """

    trial: Trial
    metrics: tuple[Metric, ...] = ()
    log: Path | None = None
    artifacts: Mapping[str, Path] = field(default_factory=dict[str, Path])
