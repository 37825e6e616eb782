"""The states of the scheduler: any order of starts, ends, crashes, resumes and outages keeps what is promised.

Real are the scheduler, the loop, the spool and the store; workers are stand-ins that end when a rule says so, and the
recorder writes when a rule says so. A crash may come at any call that writes. KATIB_FLOW_CHAOS tries many more.
"""

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from katib_flow.errors import TrackingUnavailable
from katib_flow.history import Metric, State, Suggestion, Trial
from katib_flow.local import conclusion
from katib_flow.local import scheduler as module
from katib_flow.local.observer import Silent
from katib_flow.local.scheduler import Scheduler
from katib_flow.local.spool import Spool
from katib_flow.local.worker import Done, Run, read_result, save_result
from katib_flow.local.workers import Lost
from katib_flow.loop import End
from katib_flow.metrics.text import now_ms
from katib_flow.replay import replay
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Record, Status, Store
from katib_flow.tracking.recorder import merged
from katib_flow.trial.outcome import Outcome, StopTrial

MANY = int(os.environ.get("KATIB_FLOW_CHAOS", "0"))
PARAMETERS = {
    "random": {"x": {"type": "float", "min": 0, "max": 1}},
    "tpe": {"x": {"type": "float", "min": 0, "max": 1}},
    "grid": {"x": {"type": "int", "min": 1, "max": 6}},
}
SETTINGS = {"tpe": {"startup": 2}}


class Crash(Exception):
    """The scheduler's process is killed here."""


@dataclass
class Fuse:
    """Crashes at the n-th of the calls that write; 0 for none."""

    left: int = 0

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


@dataclass
class Away:
    """The real store, which a rule takes away; ``recorded`` reads it all the same."""

    real: Store
    fuse: Fuse
    away: bool = False
    refused: int = 0

    @property
    def away_since(self) -> float | None:
        return 1.0 if self.away else None

    def patience(self, seconds: float) -> Any:
        return nullcontext()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not callable(found) or name == "reserve":
            return found

        def called(*args: Any, **options: Any) -> Any:
            if self.away:
                self.refused += 1
                if self.refused > 3:  # it waits for the store, and somebody loses patience
                    raise Crash
                raise TrackingUnavailable("away")
            self.refused = 0
            if name in ("write", "summarise"):
                self.fuse.burn()
            return found(*args, **options)

        return called


@dataclass
class Buffered:
    """As the recorder, without its thread: what waits is lost in a crash."""

    store: Away
    record: Record
    written: Callable[[Trial], None]
    waiting: dict[str, list[Change]] = field(default_factory=dict[str, list[Change]])
    run_ids: dict[str, str] = field(default_factory=dict[str, str])
    patient: bool = False

    @property
    def results(self) -> int:
        return len(self.waiting)

    def queue(self, change: Change) -> None:
        self.store.fuse.burn()
        self.waiting.setdefault(change.trial.id, []).append(change)

    def run_id(self, trial_id: str) -> str:
        return self.run_ids.get(trial_id, "")

    def write(self, most: int) -> None:
        for trial_id in list(self.waiting)[:most]:
            change = merged(self.waiting[trial_id])
            run_id = change.trial.run_id or self.run_id(trial_id)
            trial = self.store.write(self.record, [replace(change, trial=replace(change.trial, run_id=run_id))])[0]
            self.run_ids[trial.id] = trial.run_id
            del self.waiting[trial_id]
            if trial.state.final:
                self.written(trial)

    def flush(self, tick: Callable[[], bool] = lambda: True) -> bool:
        self.write(len(self.waiting))
        return True


@dataclass
class Worker:
    begun: Callable[[Run], None]
    running: Run | None = None
    request: StopTrial | None = None

    def send(self, message: Any) -> None:
        self.begun(message)

    def stop(self, request: StopTrial) -> None:
        self.request = self.request or request


@dataclass
class Pool:
    begun: Callable[[Run], None]
    size: int
    members: list[Worker] = field(default_factory=list[Worker])

    def fill(self) -> None:
        self.members += [Worker(self.begun) for _ in range(self.size - len(self.members))]

    def idle(self) -> list[Worker]:
        return [worker for worker in self.members if worker.running is None]

    def running(self) -> list[Worker]:
        return [worker for worker in self.members if worker.running is not None]

    def close(self) -> None:
        self.members.clear()


class Schedulers(RuleBasedStateMachine):
    """One experiment, and the schedulers that drive it one after the other, from two directories."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="katib-flow-states-"))
        self.fuse = Fuse()
        self.away = Away(self.store, self.fuse)
        self.scheduler: Any = None
        self.most = 0  # trials that were ever allowed
        self.room: int | None = None  # on the disk, in suggestions; None for any number
        self.acknowledged: dict[str, Trial] = {}
        self.patches = [patch.object(module, "CONTROL_SECONDS", -1.0), patch.object(conclusion, "keep_report")]
        for each in self.patches:
            each.start()

    @initialize(
        algorithm=st.sampled_from(sorted(PARAMETERS)),
        most=st.integers(1, 6),
        parallel=st.integers(1, 3),
        failures=st.integers(0, 2),
        retries=st.integers(0, 1),
        barrier=st.booleans(),
    )
    def begin(self, algorithm: str, most: int, parallel: int, failures: int, retries: int, barrier: bool) -> None:
        (self.base / "0").mkdir()
        (self.base / "1").mkdir()
        limits = {"max_trials": most, "parallel_trials": parallel, "max_failed_trials": failures, "retries": retries}
        self.experiment = Experiment.parse(
            {
                "name": "states",
                "objective": {"metric": "loss", "direction": "minimize"},
                "parameters": PARAMETERS[algorithm],
                "algorithm": {
                    "name": algorithm,
                    "seed": 3,
                    "settings": SETTINGS.get(algorithm, {}),
                },
                "limits": limits,
                "trial": {"function": "nowhere:train"},
            }
        )
        self.barrier, self.most = barrier, most
        self.key = uuid.uuid4().hex[:16]
        self.record = self.store.create(self.experiment, key=self.key)
        self.start(0)

    def start(self, directory: int) -> None:
        """A scheduler in one of the directories, as ``run`` and ``resume`` make it."""
        spool = Spool(self.key, self.base / str(directory))
        record = self.store.get(self.record.run_id)
        recorder = Buffered(self.away, record, lambda trial: spool.remove(trial.suggestion))
        pool = Pool(self.begun, self.experiment.limits.parallel_trials)
        lease: Any = SimpleNamespace(lost="")
        parts: Any = (self.away, record, lease, pool, spool, recorder, Silent(), self.barrier)
        scheduler = Scheduler(*parts)
        scheduler._judged_once = True
        scheduler.control = self.store.control(record)
        spool_add, self.handled, self.cut = spool.add, set[str](), set[str]()

        def add(suggestion: Suggestion) -> None:
            self.fuse.burn()
            if self.room is not None:
                if not self.room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.room -= 1
            spool_add(suggestion)

        spool.add = add  # type: ignore[method-assign]
        try:
            scheduler.recover()
            if record.status is not Status.RUNNING:
                self.away.summarise(record, scheduler.history, Status.RUNNING)
        except Crash:
            spool.close()
            return
        self.scheduler = scheduler

    def begun(self, run: Run) -> None:
        name = run.suggestion.id
        assert name not in self.acknowledged, f"{name} had ended, and runs again"
        assert name not in self.handled, f"{name} has ended, and runs again"
        assert not run.directory.result.exists() or self.restarts(run), f"{name} has a result, and runs again"
        run.directory.path.mkdir(exist_ok=True)

    def restarts(self, run: Run) -> bool:
        """Whether what a trial left is of a try that the machine ended."""
        outcome = read_result(run.directory)
        return outcome is None or outcome.fault or outcome.state is State.KILLED

    def drop(self) -> None:
        self.scheduler.spool.close()
        self.scheduler = None

    # what happens

    alive = precondition(lambda self: self.scheduler is not None)
    busy = precondition(lambda self: self.scheduler is not None and self.scheduler.workers.running())
    gone = precondition(lambda self: self.scheduler is None and not self.away.away)

    @alive
    @rule()
    def turn(self) -> None:
        try:
            if not self.scheduler.turn():
                self.end()
        except Crash:
            self.drop()
        except TrackingUnavailable:
            self.drop()  # the command ends with an error; resume goes on

    @alive
    @rule()
    def turn_that_is_recorded(self) -> None:
        self.turn()
        if self.scheduler is not None:
            self.the_recorder_writes(100)

    def end(self) -> None:
        result = self.scheduler.finish()
        self.drop()
        history, control = self.store.history(self.record), self.store.control(self.record)
        assert [trial.state.final for trial in history] == [True] * len(history)
        assert self.store.get(self.record.run_id).status is result.status
        if result.verdict.end is End.MAX_TRIALS:
            over = sum(trial.state.over for trial in history)
            assert over >= (control.most_trials(self.experiment) or 0)

    @alive
    @rule(calls=st.integers(1, 6))
    def turn_that_is_cut_off(self, calls: int) -> None:
        self.fuse.left = calls
        self.turn()
        self.fuse.left = 0

    @busy
    @rule(data=st.data(), kind=st.sampled_from(["succeeds", "succeeds", "fails", "lost", "crash"]))
    def a_trial_ends(self, data: st.DataObject, kind: str) -> None:
        """``crash``: its result is on the disk, and the scheduler is killed before it hears of it."""
        worker = data.draw(st.sampled_from(self.scheduler.workers.running()))
        run, worker.running = worker.running, None
        outcome = self.outcome(run, kind, worker.request)
        if kind == "lost":
            self.scheduler.workers.members.remove(worker)
            if self.scheduler.interrupts:  # it was killed with the scheduler, and is closed at its end
                self.cut.add(run.suggestion.id)
            self.scheduler.handle((run, Lost(-9)))
            return
        save_result(run.directory, outcome)
        if kind == "crash":
            self.drop()
            return
        worker.request = None
        self.scheduler.handle((run, Done(outcome)))
        (self.handled if outcome.state.over else self.cut).add(run.suggestion.id)

    def outcome(self, run: Run, kind: str, request: StopTrial | None) -> Outcome:
        if request is not None:
            return Outcome(request.state, "ended", started=1.0, ended=2.0)
        if kind == "fails":
            return Outcome(State.FAILED, "no good", started=1.0, ended=2.0)
        value = float(str(run.suggestion.assignment["x"]))
        metrics = (Metric("loss", value, 0, now_ms()),)
        return Outcome(State.SUCCEEDED, "", metrics, 1.0, 2.0, observations={"loss": value})

    @alive
    @rule(most=st.integers(1, 4))
    def the_recorder_writes(self, most: int) -> None:
        try:
            self.scheduler.recorder.write(most)
        except TrackingUnavailable:
            pass
        except Crash:
            self.drop()

    @alive
    @rule()
    def crash(self) -> None:
        self.drop()

    @alive
    @rule()
    def interrupt(self) -> None:
        self.scheduler.interrupts += 1

    @rule(what=st.sampled_from(["stop", "pause"]))
    def ask(self, what: str) -> None:
        self.store.set_control(self.record, **{what: True})

    @rule(room=st.none() | st.integers(0, 3))
    def the_disk_has_room(self, room: int | None) -> None:
        self.room = room

    @rule()
    def the_store_goes(self) -> None:
        self.away.away = True

    @precondition(lambda self: self.away.away)
    @rule()
    def the_store_is_back(self) -> None:
        self.away.away = False

    @gone
    @rule(directory=st.sampled_from([0, 0, 1]), more=st.none() | st.integers(1, 8))
    def resume(self, directory: int, more: int | None) -> None:
        self.most = max(self.most, more or 0)
        self.store.go_on(self.record, max_trials=more)
        self.start(directory)

    @gone
    @rule()
    def what_has_ended_has_ended_for_good(self) -> None:
        """Resumed as it is, an experiment that reached its end starts nothing."""
        record = self.store.get(self.record.run_id)
        if record.status not in (Status.SUCCEEDED, Status.FAILED):
            return
        before = self.store.history(self.record)
        self.store.go_on(self.record)
        self.start(0)
        assert self.scheduler.turn() is False
        self.scheduler.finish()
        self.drop()
        after = self.store.history(self.record)
        assert [(trial.id, trial.state, trial.observations) for trial in after] == [
            (trial.id, trial.state, trial.observations) for trial in before
        ]
        assert self.store.get(self.record.run_id).status is record.status

    # what holds

    @invariant()
    def nothing_that_was_recorded_is_lost_or_changed(self) -> None:
        if not self.most:
            return
        rows = self.store._backend.rows(self.record.mlflow_experiment_id, self.record.run_id)
        names = [row.tags["katib_flow.trial_id"] for row in rows]
        assert len(names) == len(set(names)), "a trial has two runs"
        history = self.store.history(self.record)
        now = {trial.id: trial for trial in history if trial.state.over}
        for name, trial in self.acknowledged.items():
            assert name in now, f"{name} is lost"
            assert (trial.state, trial.observations, trial.assignment) == (
                now[name].state,
                now[name].observations,
                now[name].assignment,
            )
        for trial in now.values():
            if trial.state is State.SUCCEEDED:
                assert trial.observations == {"loss": trial.assignment["x"]}
        self.acknowledged = now
        assert [trial.index for trial in history] == list(range(len(history)))

    @invariant()
    def no_more_run_than_may(self) -> None:
        if self.scheduler is None:
            return
        history, limits = self.scheduler.history, self.experiment.limits
        assert [trial.index for trial in history] == list(range(len(history)))
        assert len(self.scheduler.workers.running()) <= limits.parallel_trials
        assert sum(trial.state is not State.KILLED for trial in history) <= self.most
        failed = sum(trial.state.failure for trial in history)
        assert failed <= (limits.max_failed_trials or 0) + limits.parallel_trials
        assert all(trial.retries <= limits.retries for trial in history)
        running = {worker.running.suggestion.id for worker in self.scheduler.workers.running()}
        waiting = {suggestion.id for suggestion in self.scheduler.again}
        forgotten = [trial.id for trial in history if not trial.state.over and trial.id not in running | waiting]
        assert set(forgotten) <= self.cut, "neither running nor waiting"

    def teardown(self) -> None:
        try:
            if self.most:
                self.to_the_end()
        finally:
            for each in self.patches:
                each.stop()
            shutil.rmtree(self.base)

    def to_the_end(self) -> None:
        """Whatever has happened, it can be resumed, ends, and is as it says."""
        self.away.away, self.fuse.left, self.room = False, 0, None
        if self.scheduler is not None:
            self.drop()
        self.store.go_on(self.record)
        self.start(0)
        for _ in self.turns():
            for worker in self.scheduler.workers.running():
                run, worker.running = worker.running, None
                outcome = self.outcome(run, "succeeds", worker.request)
                save_result(run.directory, outcome)
                self.scheduler.handle((run, Done(outcome)))
        self.nothing_that_was_recorded_is_lost_or_changed()
        record, history = self.store.get(self.record.run_id), self.store.history(self.record)
        assert record.status in (Status.SUCCEEDED, Status.FAILED), record
        assert not list((self.base / "0").rglob("suggestion.json"))
        assert [one for one in replay(self.experiment, history) if one.differences] == []

    def turns(self) -> Iterator[None]:
        for _ in range(100):
            if not self.scheduler.turn():
                self.end()
                return
            yield
        raise AssertionError("it does not end")


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> None:
    Schedulers.store = Store(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db", "states")


@pytest.fixture
def machine() -> Iterator[Schedulers]:
    """An experiment of two trials, one at a time."""
    machine = Schedulers()
    machine.begin("random", most=2, parallel=1, failures=0, retries=0, barrier=False)
    yield machine
    machine.teardown()


def running(machine: Schedulers) -> Worker:
    (worker,) = machine.scheduler.workers.running()
    return worker


def ends(machine: Schedulers) -> None:
    worker = running(machine)
    run, worker.running = worker.running, None
    assert run is not None
    outcome = machine.outcome(run, "succeeds", None)
    save_result(run.directory, outcome)
    machine.scheduler.handle((run, Done(outcome)))


def test_an_experiment_whose_last_trial_was_killed_with_its_worker_is_interrupted(machine: Schedulers) -> None:
    machine.turn()
    ends(machine)
    machine.turn()
    worker = running(machine)
    machine.scheduler.interrupts = 2
    machine.scheduler.workers.members.remove(worker)
    machine.scheduler.handle((worker.running, Lost(-9)))
    machine.turn()
    record = machine.store.get(machine.record.run_id)
    assert (record.status, record.reason) == (Status.INTERRUPTED, "interrupted; resume it to continue")


def test_a_clock_that_is_set_ends_no_experiment_before_its_time(
    machine: Schedulers, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.store.set_control(machine.record, timeout=1000.0)
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr(time, "time", lambda: now + 86_400)
        machine.turn()
        assert running(machine)


def test_what_lies_on_the_disk_of_a_trial_that_became_another_elsewhere_is_not_its_result(machine: Schedulers) -> None:
    machine.turn()
    ends(machine)  # on the disk of the first directory alone
    machine.drop()
    elsewhere = Spool(machine.key, machine.base / "1")
    other = Suggestion(0, {"x": 0.75})
    elsewhere.add(other)
    machine.store.write(machine.record, [Change(Trial(other, State.RUNNING))])  # and the machine was lost
    elsewhere.close()
    machine.start(0)
    machine.turn()
    assert running(machine).running is not None
    ends(machine)
    machine.the_recorder_writes(5)
    machine.nothing_that_was_recorded_is_lost_or_changed()
    (trial,) = machine.store.history(machine.record)
    assert (trial.assignment, trial.observations) == ({"x": 0.75}, {"loss": 0.75})


def test_a_trial_that_was_killed_elsewhere_leaves_nothing_to_be_taken_up_here(machine: Schedulers) -> None:
    machine.turn()
    machine.the_recorder_writes(1)
    machine.drop()
    machine.resume(directory=1, more=None)
    machine.interrupt()
    machine.turn()
    machine.store.set_control(machine.record, stop=True)
    machine.start(0)
    machine.turn()
    assert [trial.state for trial in machine.store.history(machine.record)] == [State.KILLED]
    assert not list((machine.base / "0").rglob("suggestion.json"))


@pytest.mark.timeout(3600 if MANY else 300)
def test_any_order_of_what_can_happen() -> None:
    run_state_machine_as_test(
        Schedulers,
        settings=settings(
            max_examples=MANY * 5 or 30,
            stateful_step_count=60 if MANY else 25,
            deadline=None,
            derandomize=not MANY,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
