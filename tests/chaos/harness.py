"""An experiment that is disturbed: processes that are killed, stores that fail, and what must hold when it has ended.

Every process of an experiment has a mark in its environment, so that those that were left behind can be found.
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kit import within

from katib_flow.history import History, State
from katib_flow.tracking import Record, Status, Store

MARK = "KATIB_FLOW_CHAOS_MARK"
CODE = """\
import time
import katib_flow as kf

def value(x):
    return round((x - 0.3) ** 2, 9)

def once(x):
    time.sleep(0.15)
    return {"loss": value(x)}

def in_steps(x, epochs=4):
    '''Goes on from its checkpoint, and reports the same whether it was interrupted or not.'''
    kept = kf.checkpoint_dir() / "epoch"
    parent = kf.parent_checkpoint_dir()
    begin = int(kept.read_text()) if kept.exists() else 0
    for epoch in range(begin, int(epochs)):
        time.sleep(0.05)
        kf.report(step=epoch, loss=value(x) + (int(epochs) - 1 - epoch))
        kept.write_text(str(epoch + 1))
    if begin >= int(epochs):
        kf.report(step=int(epochs) - 1, loss=value(x))

def network():
    time.sleep(0.1)
    return {"loss": float(kf.topology().parameters)}
"""


CLOCK = """\
# Python runs this when it starts: it shifts the clock of the process by the seconds in a file
import os, time

def offset(file=os.path.join(os.path.dirname(__file__), "offset")):
    try:
        with open(file) as text:
            return float(text.read())
    except (OSError, ValueError):
        return 0.0

def shifted(seconds=time.time):
    return seconds() + offset()

def shifted_ns(nanoseconds=time.time_ns):
    return nanoseconds() + int(offset() * 1e9)

time.time, time.time_ns = shifted, shifted_ns
"""


@dataclass
class Experiment:
    """An experiment in a directory of its own, run by commands as a user does, again and again until it ends.

    Attributes:
        faults: what was done to it, counted by kind.
        acknowledged: the observations of trials that were once recorded: they may never change.
    """

    directory: Path
    spec: dict[str, Any]
    uri: str
    rng: random.Random
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    faults: dict[str, int] = field(default_factory=dict[str, int])
    acknowledged: dict[str, float] = field(default_factory=dict[str, float])
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "user_code.py").write_text(CODE)
        (self.directory / "spec.yaml").write_text(yaml.safe_dump(self.spec))
        (self.directory / "clock").mkdir()
        (self.directory / "clock" / "sitecustomize.py").write_text(CLOCK)

    @property
    def name(self) -> str:
        return self.spec["name"]

    # its processes

    def start(self) -> None:
        """Begin it, or go on with it where it is recorded."""
        begun = any(record.name == self.name for record in self.store.records())
        arguments = ["resume", self.name] if begun else ["run", "spec.yaml"]
        environment = {**os.environ, MARK: self.mark, "MLFLOW_TRACKING_URI": self.uri, "PYTHONFAULTHANDLER": "0"}
        paths = [str(self.directory / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        log = (self.directory / "output.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "katib_flow", *arguments, "-q"],
            cwd=self.directory,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def workers(self) -> list[int]:
        """The children of the scheduler."""
        assert self.process is not None
        return [pid for pid in self.processes() if parent(pid) == self.process.pid]

    def trials(self) -> list[int]:
        """The processes of trials: their workers have children."""
        workers = set(self.workers())
        return [pid for pid in self.processes() if parent(pid) in workers]

    def processes(self) -> list[int]:
        """All that have the mark."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if wanted in environment_of(pid)]

    # faults

    def kill(self, kind: str, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to one process of a kind, or to its group, where there is one."""
        listed = {"scheduler": self._scheduler, "worker": self.workers, "trial": self.trials}[kind]
        candidates: list[int] = []
        within(0.5, lambda: bool(candidates.extend(listed()) or candidates))
        if candidates:
            pid = self.rng.choice(candidates)
            try:
                os.killpg(os.getpgid(pid), number) if group else os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                return
            self.count(f"{kind}{'s group' if group else ''} {number.name}")

    def set_clock(self) -> None:
        """Set the clock of all processes, back or forth, by as much as a second or a day."""
        seconds = self.rng.choice([1, 30, 3600, 86_400]) * self.rng.choice([-1, 1])
        part = self.directory / "clock" / "part"
        part.write_text(str(seconds))
        part.replace(self.directory / "clock" / "offset")
        self.count(f"clock {seconds:+} s")

    def fill_disk(self) -> None:
        """Have some processes find no room for any file for a moment."""
        kind = self.rng.choice(["scheduler", "worker", "every process"])
        listed = {"scheduler": self._scheduler, "worker": self.workers, "every process": self.processes}[kind]
        candidates: list[int] = []
        within(0.5, lambda: bool(candidates.extend(listed()) or candidates))
        if not candidates:
            return
        limits = {pid: limit for pid in candidates if (limit := room_of(pid, 0))}
        time.sleep(self.rng.uniform(0.1, 1))
        without_room = set(limits)
        while without_room:  # a process that was started meanwhile has its parent's limit, which was listed too late
            for pid in without_room:
                room_of(pid, resource.RLIM_INFINITY)
            time.sleep(0.05)  # one that is being started is not listed yet
            without_room = {pid for pid in self.processes() if has_no_room(pid)}
        self.count(f"no room for {kind}")

    def _scheduler(self) -> list[int]:
        return [self.process.pid] if self.process is not None and self.running else []

    def count(self, kind: str) -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1

    # what must hold

    @property
    def store(self) -> Store:
        return Store(self.uri, contact_seconds=60)

    def record(self) -> Record | None:
        return next((record for record in self.store.records() if record.name == self.name), None)

    def history(self) -> History:
        record = self.record()
        return History() if record is None else self.store.history(record)

    def check_acknowledged(self) -> None:
        """Nothing that was once recorded has changed or gone."""
        now = {trial.id: trial.observations["loss"] for trial in self.history() if trial.state is State.SUCCEEDED}
        lost = {trial: value for trial, value in self.acknowledged.items() if now.get(trial) != value}
        assert not lost, f"{lost} were recorded; now {[now.get(trial) for trial in lost]}"
        self.acknowledged = now

    def check_end(self, right: Callable[[Any], float] | None, trials: int | None) -> None:
        """It has ended as it should, every trial is there once and is right, and nothing is left behind."""
        self.check_acknowledged()
        record, history = self.record(), self.history()
        assert record is not None
        assert record.status is Status.SUCCEEDED, record.reason
        assert trials is None or len(history) == trials
        assert [trial.index for trial in history] == list(range(len(history)))
        assert all(trial.state.over for trial in history)
        assert sorted(self.runs(record)) == sorted(trial.id for trial in history), "a trial has two runs, or none"
        for trial in history:
            if trial.state is State.SUCCEEDED and right is not None:
                assert abs(trial.observations["loss"] - right(trial)) < 1e-9, (trial.id, trial.observations)
        assert within(20, lambda: not self.processes()), f"processes are left: {self.processes()}"
        spool = self.directory / ".katib_flow"
        left = list(spool.rglob("suggestion.json"))  # by this a resume knows a trial that MLflow has not
        assert not left, f"left behind: {left}"

    def runs(self, record: Record) -> list[str]:
        """The names of the runs below the experiment's, by MLflow's own client, so that none is overlooked."""
        from mlflow import MlflowClient

        where = f"tags.`mlflow.parentRunId` = '{record.run_id}'"
        runs = MlflowClient(self.uri).search_runs([record.mlflow_experiment_id], where, max_results=5000)
        return [run.info.run_name for run in runs]


def disturbed(experiment: Experiment, fault: Callable[[Experiment], None], faults: int, seconds: float = 600) -> None:
    """Run an experiment to its end, with faults at random moments as long as there are any left."""
    deadline = time.monotonic() + seconds
    done = 0
    experiment.start()
    while True:
        assert time.monotonic() < deadline, f"it does not end: {tail(experiment)}"
        if experiment.running:
            time.sleep(experiment.rng.uniform(0.02, 0.5))  # a moment of chance: it is what is tested
            if done < faults:
                before = sum(experiment.faults.values())
                fault(experiment)
                done += sum(experiment.faults.values()) - before
            continue
        assert experiment.process is not None
        record = experiment.record()
        assert record is not None or "spec.yaml:" not in tail(experiment), tail(experiment)
        experiment.check_acknowledged()
        if record is not None and record.status in (Status.SUCCEEDED, Status.FAILED):
            return
        experiment.start()


def tail(experiment: Experiment) -> str:
    return (experiment.directory / "output.log").read_text()[-3000:]


def room_of(pid: int, most: int) -> bool:
    """Set the size that the files of a process may have, in bytes; False where it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(
            pid, resource.RLIMIT_FSIZE, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )
        return True
    return False


def has_no_room(pid: int) -> bool:
    """Whether the files of a process may have no byte; False where it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        return resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] == 0
    return False


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
