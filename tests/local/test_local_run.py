"""The loop on this machine: real workers, real processes, a real SQLite store."""

import errno
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import katib_flow as kf
from katib_flow.errors import InvalidSpec, KatibFlowError, NotFound, TrackingError
from katib_flow.history import State
from katib_flow.local import Result, resume_experiment, run_experiment
from katib_flow.local.spool import Spool
from katib_flow.loop import End
from katib_flow.spec import Experiment
from katib_flow.tracking import Status, Store
from katib_flow.tracking.lease import TAG, Lease

MODULE = """\
import os, pathlib, signal, time


def square(x):
    return {"loss": (x - 0.5) ** 2}


def count(x):
    '''Notes each start, so that a second run of a finished trial shows.'''
    import katib_flow as kf
    with open("started", "a") as file:
        file.write(os.path.basename(os.path.dirname(os.environ["KATIB_FLOW_TRIAL_FILE"])) + "\\n")
    return x


def fails(x):
    raise ValueError("no good")


def sometimes(x):
    if x > 0.5:
        raise ValueError("too high")
    return x


def wait_for(name, seconds=60):
    deadline = time.monotonic() + seconds
    while not pathlib.Path(name).exists():
        assert time.monotonic() < deadline, name
        time.sleep(0.01)


def meets(x, k):
    '''Ends only when its partner runs too.'''
    pathlib.Path(f"here{k}").touch()
    wait_for(f"here{1 - k}")
    return k


def slow_first(k):
    '''The first trial ends only when all others have.'''
    if k == 0:
        for other in range(1, 5):
            wait_for(f"done{other}")
    pathlib.Path(f"done{k}").touch()
    return k


def killed_once(x):
    flag = pathlib.Path("killed")
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def late(x):
    '''Takes longer than there is, the first time.'''
    with open("started", "a") as file:
        file.write(".")
    if not pathlib.Path("quick").exists():
        time.sleep(600)
    return x


def goes_on(x):
    '''Is best at its first step, and killed at its third, which it has not yet in its checkpoint.'''
    import katib_flow as kf
    state = kf.checkpoint_dir() / "step"
    for step in range(int(state.read_text()) + 1 if state.exists() else 0, 5):
        kf.report(loss=step, step=step)
        if step == 2 and not pathlib.Path("killed").exists():
            pathlib.Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        state.write_text(str(step))


def killed(x):
    os.kill(os.getpid(), signal.SIGKILL)


def stalls(k):
    '''Trial 0 gets better at each of its steps; the others never do, and end only when they are told to.'''
    import itertools
    import katib_flow as kf
    for step in range(10) if k == 0 else itertools.count():
        kf.report(loss=10 - step if k == 0 else 20 + k, step=step)
        if kf.should_stop():
            return
        time.sleep(0.01)


def goal_then_hang(k):
    if k == 0:
        wait_for("hanging")
        return 1.0
    pathlib.Path("hanging").touch()
    time.sleep(600)


def hangs(x):
    time.sleep(600)


def cleans_up(x):
    try:
        time.sleep(600)
    finally:
        pathlib.Path("clean").touch()


def spans(x):
    '''Reports when it began and ended, by a clock that all processes share.'''
    import katib_flow as kf
    begun = time.monotonic()
    time.sleep(0.02 + 0.1 * x)
    kf.report(begun=begun, ended=time.monotonic())
    return x


def trains_on(x, epochs):
    '''Counts its epochs in a checkpoint, from its parent's on.'''
    import katib_flow as kf
    parent = kf.parent_checkpoint_dir()
    done = int((parent / "epochs").read_text()) if parent else 0
    (kf.checkpoint_dir() / "epochs").write_text(str(epochs))
    return {"loss": x, "trained": epochs - done}


def needs_argument(x, y):
    return x
"""
FLOAT = {"x": {"type": "float", "min": 0, "max": 1}}


def spec(function: str, **changes: Any) -> Experiment:
    data: dict[str, Any] = {
        "name": "local",
        "objective": {"metric": "loss", "direction": "minimize"},
        "parameters": FLOAT,
        "algorithm": {"name": "random", "seed": 3},
        "limits": {"max_trials": 6, "parallel_trials": 2},
        "trial": {"function": f"user_module:{function}"},
    }
    return Experiment.parse(data | changes)


def ints(count: int) -> dict[str, Any]:
    return {"k": {"type": "int", "min": 0, "max": count - 1}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, to copy: making one takes MLflow a second."""
    path = tmp_path_factory.mktemp("empty") / "katib_flow.db"
    Store(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(here: Path, empty_store: Path) -> Store:
    with closing(sqlite3.connect(empty_store)) as source, closing(sqlite3.connect(here / "katib_flow.db")) as target:
        source.backup(target)
    return Store(f"sqlite:///{here}/katib_flow.db")


@pytest.fixture
def run(store: Store) -> Callable[..., Result]:
    def run(function: str, *, progress: Any = None, barrier: bool = False, **changes: Any) -> Result:
        return run_experiment(spec(function, **changes), store=store, progress=progress, barrier=barrier)

    return run


def test_every_trial_is_run_once_and_recorded(run: Any, store: Store) -> None:
    result = run("square")
    assert (result.status, result.reason) == (Status.SUCCEEDED, "reached limits.max_trials (6)")
    recorded = store.history(store.get(result.run_id))
    assert [trial.id for trial in recorded] == [f"t0000{index}" for index in range(6)]
    assert [trial.state for trial in recorded] == [State.SUCCEEDED] * 6
    assert [trial.assignment for trial in recorded] == [trial.assignment for trial in result.trials]
    for trial in recorded:
        assert trial.observations == {"loss": (trial.assignment["x"] - 0.5) ** 2}  # type: ignore[operator]
    assert result.best is not None
    assert result.best.observations["loss"] == min(trial.observations["loss"] for trial in recorded)


def test_trials_run_side_by_side(run: Any) -> None:
    result = run("meets", parameters=ints(2) | {"x": {"type": "int", "min": 1, "max": 1}}, algorithm="grid")
    assert [trial.state for trial in result.trials] == [State.SUCCEEDED] * 2


def test_a_slow_trial_holds_up_no_other(run: Any) -> None:
    result = run("slow_first", parameters=ints(5), algorithm="grid")
    assert [trial.state for trial in result.trials] == [State.SUCCEEDED] * 5


def test_with_a_barrier_an_iteration_begins_when_the_one_before_has_ended(run: Any, store: Store) -> None:
    result = run("spans", barrier=True, additional_metrics=["begun", "ended"])
    spans = [
        (trial.observations["begun"], trial.observations["ended"]) for trial in store.history(store.get(result.run_id))
    ]
    for first in (0, 2):
        assert max(end for _, end in spans[first : first + 2]) <= min(
            begin for begin, _ in spans[first + 2 : first + 4]
        )


def test_a_grid_that_is_used_up_ends_the_experiment(run: Any) -> None:
    result = run("slow_first", parameters=ints(5), algorithm="grid", limits={"parallel_trials": 2})
    assert (result.verdict.end, len(result.trials)) == (End.EXHAUSTED, 5)


def test_the_goal_ends_the_experiment_and_what_still_runs(run: Any, store: Store) -> None:
    objective = {"metric": "score", "direction": "maximize", "goal": 1}
    result = run("goal_then_hang", parameters=ints(4), algorithm="grid", objective=objective)
    assert result.reason == "trial t00000 reached the goal with score 1"
    assert [trial.state for trial in store.history(store.get(result.run_id))] == [State.SUCCEEDED, State.KILLED]


def test_too_many_failed_trials_fail_the_experiment(run: Any) -> None:
    result = run("fails", limits={"max_trials": 9, "max_failed_trials": 1, "parallel_trials": 1})
    assert (result.status, result.reason, len(result.trials)) == (
        Status.FAILED,
        "2 trials failed; limits.max_failed_trials allows 1; "
        "no trial gave a finite value of 'loss': 2 failed (ValueError: no good)",
        2,
    )
    assert {trial.message for trial in result.trials} == {"ValueError: no good"}


def test_failed_trials_are_results_and_never_the_best(run: Any) -> None:
    result = run("sometimes", limits={"max_trials": 8, "max_failed_trials": 8, "parallel_trials": 2})
    states = {trial.id: trial.state for trial in result.trials}
    assert set(states.values()) == {State.SUCCEEDED, State.FAILED}
    assert states[result.best.id] is State.SUCCEEDED


def test_the_timeout_ends_the_experiment(run: Any) -> None:
    result = run("hangs", limits={"max_trials": 9, "timeout": "1s"})
    assert (result.status, result.verdict.end) == (Status.FAILED, End.TIMEOUT)
    assert result.reason.startswith("reached limits.timeout (1 s); no trial gave a finite value of 'loss'")
    assert {trial.state for trial in result.trials} == {State.KILLED}


def test_a_resume_goes_on_with_what_is_left_of_the_time_or_with_more(run: Any, store: Store, here: Path) -> None:
    result = run("late", limits={"max_trials": 2, "timeout": "1s"})
    started = (here / "started").read_text()
    (here / "quick").touch()
    again = resume_experiment(store, result.run_id)
    assert (again.status, again.reason.split(";")[0]) == (Status.FAILED, "reached limits.timeout (1 s)")
    assert (here / "started").read_text() == started  # nothing was started: its time was up
    more = resume_experiment(store, result.run_id, timeout=600)
    assert (more.status, more.reason) == (Status.SUCCEEDED, "reached limits.max_trials (2)")
    assert {trial.state for trial in more.trials} == {State.SUCCEEDED}


def test_a_hopeless_trial_is_ended_by_a_rule_before_and_after_a_resume(run: Any, store: Store) -> None:
    """Trial 0 averages 5.5; the others stand at 21 and more, and would go on for ever."""
    rule = {"name": "median", "settings": {"min_trials": 1, "start_step": 1}}
    limits = {"max_trials": 3, "parallel_trials": 1}
    result = run("stalls", parameters=ints(6), algorithm="grid", early_stopping=rule, limits=limits)
    ended = [State.SUCCEEDED, State.EARLY_STOPPED, State.EARLY_STOPPED]
    assert [trial.state for trial in result.trials] == ended
    result = resume_experiment(store, result.run_id, max_trials=4)
    trials = store.history(store.get(result.run_id))
    assert [trial.state for trial in trials] == [*ended, State.EARLY_STOPPED]
    assert trials[3].observations["loss"] == 23
    assert "is worse than" in trials[3].message
    assert "the median of the averages of" in trials[3].message


def test_a_trial_that_hangs_is_a_failed_trial(run: Any) -> None:
    result = run("hangs", limits={"max_trials": 1, "trial_timeout": 0.2})
    assert [trial.message for trial in result.trials] == ["reached limits.trial_timeout (0.2 s)"]


def test_a_trial_that_is_ended_may_clean_up(run: Any, here: Path) -> None:
    run("cleans_up", limits={"max_trials": 1, "trial_timeout": 0.5})
    assert (here / "clean").exists()


def test_a_trial_that_the_machine_killed_is_tried_again(run: Any, store: Store) -> None:
    result = run("killed_once", limits={"max_trials": 1})
    trial = store.history(store.get(result.run_id))[0]
    assert (trial.state, trial.retries, trial.message) == (State.SUCCEEDED, 1, "")


def test_one_that_goes_on_from_its_checkpoint_looks_as_if_it_had_run_once(run: Any, store: Store) -> None:
    result = run("goes_on", limits={"max_trials": 1}, metrics={"strategy": {"loss": "min"}})
    [trial] = store.history(store.get(result.run_id), series=True)
    assert (trial.state, trial.retries, trial.observations) == (State.SUCCEEDED, 1, {"loss": 0.0})
    assert [(metric.step, metric.value) for metric in trial.series["loss"]] == [(step, step) for step in range(5)]
    assert len(store.reported([trial], ["loss"])["t00000"]) == 6  # the third step twice
    assert store.curves([trial], ["loss"]) == {"t00000": list(trial.series["loss"])}  # as reports and rules see it


def test_it_is_not_tried_for_ever(run: Any) -> None:
    result = run("killed", limits={"max_trials": 1, "retries": 1})
    assert [(trial.state, trial.retries) for trial in result.trials] == [(State.FAILED, 1)]


def test_its_own_failure_is_not_tried_again(run: Any) -> None:
    assert [trial.retries for trial in run("fails", limits={"max_trials": 1}).trials] == [0]


class Watching:
    """Calls back at the end of each trial."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then

    def show(self, *_: Any) -> None: ...

    def trial_ended(self, trial: Any) -> None:
        self.then()

    def say(self, text: str) -> None: ...


@pytest.mark.parametrize(("request_", "status"), [("stop", Status.STOPPED), ("pause", Status.PAUSED)])
def test_an_experiment_that_another_process_ends_goes_on_when_it_is_resumed(
    run: Any, store: Store, monkeypatch: pytest.MonkeyPatch, request_: str, status: Status
) -> None:
    monkeypatch.setattr("katib_flow.local.scheduler.CONTROL_SECONDS", 0)
    other = Store(store.uri)

    def ask() -> None:
        other.set_control(other.records()[0], **{request_: True})

    result = run("square", progress=Watching(ask), limits={"max_trials": 400, "parallel_trials": 1})
    assert result.status is status
    assert len(result.trials) < 400
    again = resume_experiment(store, result.run_id, max_trials=len(result.trials) + 2)
    assert again.status is Status.SUCCEEDED
    assert again.reason == f"reached limits.max_trials ({len(result.trials) + 2})"


def test_a_finished_experiment_can_be_given_more_trials(run: Any, store: Store, here: Path) -> None:
    run("count", limits={"max_trials": 3})
    again = resume_experiment(store, "local", max_trials=5)
    assert [trial.id for trial in again.trials] == [f"t0000{index}" for index in range(5)]
    assert sorted((here / "started").read_text().split()) == [f"t0000{index}" for index in range(5)]
    straight = run("count", limits={"max_trials": 5})
    assert [trial.assignment for trial in again.trials] == [trial.assignment for trial in straight.trials]


def test_a_resumed_experiment_shows_as_running_while_it_runs(run: Any, store: Store) -> None:
    run("count", limits={"max_trials": 2})
    seen: list[Status] = []
    other = Store(store.uri)
    again = resume_experiment(
        store, "local", max_trials=3, progress=Watching(lambda: seen.append(other.records()[0].status))
    )
    assert seen == [Status.RUNNING]
    assert again.status is Status.SUCCEEDED


def test_resuming_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="nope: no such experiment"):
        resume_experiment(store, "nope")


def test_a_password_in_the_address_of_the_store_is_recorded_nowhere(run: Any, store: Store, here: Path) -> None:
    result = run("square", tracking={"uri": "https://ada:hunter2@mlflow"}, limits={"max_trials": 2})
    assert result.store.get(result.run_id).experiment.tracking.uri == "https://ada@mlflow"
    files = [path for path in here.rglob("*") if path.is_file()]
    assert any(path.name == "spec.yaml" for path in files)
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_order(run: Any, number: signal.Signals) -> None:
    told: list[int] = []
    progress = Watching(lambda: told or (told.append(number), os.kill(os.getpid(), number)))
    result = run("square", progress=progress, limits={"max_trials": 1000, "parallel_trials": 1})
    assert (result.status, result.reason) == (Status.INTERRUPTED, "interrupted; resume it to continue")
    assert State.SUCCEEDED in {trial.state for trial in result.trials}


def test_where_the_disk_is_full_no_trials_start_until_there_is_room(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    add, tries, said = Spool.add, iter(range(100)), []

    def full(spool: Spool, suggestion: Any) -> None:
        if 2 <= next(tries) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(spool, suggestion)

    monkeypatch.setattr(Spool, "add", full)
    progress = Watching(lambda: None)
    monkeypatch.setattr(progress, "say", said.append)
    result = run("count", progress=progress)
    assert (result.status, len(result.trials)) == (Status.SUCCEEDED, 6)
    assert sorted(Path("started").read_text().split()) == [f"t{index:05d}" for index in range(6)]
    assert [text.partition(": ")[2] for text in said] == [
        "cannot be written: No space left on device; no trials start until it can; finished trials are still recorded",
        "can be written again; trials start again",
    ]


def test_two_schedulers_do_not_run_one_experiment(
    run: Any, store: Store, here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def second() -> None:
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # another directory, the same store
        with pytest.raises(KatibFlowError) as caught:
            resume_experiment(Store(store.uri), "local")
        refused.append(str(caught.value))
        monkeypatch.chdir(here)

    thread = threading.Thread(target=second)
    run("square", progress=Watching(lambda: thread.is_alive() or thread.ident or thread.start() or thread.join()))
    assert len(refused) == 1
    assert refused[0].startswith(f"local: another process is running this experiment: process {os.getpid()} on ")


def test_a_scheduler_that_was_taken_over_from_leaves_the_experiment_alone(
    run: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("katib_flow.tracking.lease.BEAT_SECONDS", 0.01)

    def take_over() -> None:
        record = store.find("local")
        other = Lease("other", "node-7", "process 12", time.time(), time.time())
        store.lease(record, print).write({TAG: json.dumps(asdict(other))})

    with pytest.raises(TrackingError, match=r"local: process 12 on node-7 .* has taken over this experiment"):
        run("square", progress=Watching(take_over), limits={"max_trials": 100_000, "parallel_trials": 1})
    assert store.find("local").status is Status.RUNNING


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"trial": {"function": "nowhere:f"}},
            "trial.function: found 'nowhere:f', need a function that can be imported",
        ),
        ({"trial": {"function": "user_module:nope"}}, "trial.function: found 'user_module:nope', need a function"),
        (
            {"trial": {"function": "user_module:needs_argument"}},
            "need a function that takes x by name (missing a required",
        ),
        ({"algorithm": "randon"}, "algorithm.name: found 'randon'"),
        ({"trial": {"container": {"image": "a", "command": ["b"]}}}, "trial.container: found 'a container trial'"),
        ({"metrics": {"source": "push"}}, "metrics.source: found 'push', need another source"),
    ],
)
def test_an_experiment_that_cannot_run_here_is_refused_before_anything_is_recorded(
    run: Any, store: Store, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        run("square", **changes)
    assert problem in str(caught.value)
    assert store.records() == []


def test_a_directory_that_cannot_be_written_is_named(run: Any, here: Path) -> None:
    (here / ".katib_flow").write_text("a file where a directory is needed")
    with pytest.raises(
        KatibFlowError, match=r"\.katib_flow/.*: cannot be written: .*run in a directory that you can write to"
    ):
        run("square")


def test_a_mistake_in_an_algorithm_is_told_as_its_own(run: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("katib_flow.loop.answer", broken)
    with pytest.raises(KatibFlowError, match="algorithm random: ZeroDivisionError: by zero"):
        run("square")
    assert [(record.status, record.reason) for record in store.records()] == [
        (Status.FAILED, "algorithm random: ZeroDivisionError: by zero")
    ]


def test_nothing_of_a_finished_trial_is_left_on_disk(run: Any, here: Path) -> None:
    run("square")
    left = [path for path in (here / ".katib_flow").rglob("*") if path.is_file() and path.name != "lock"]
    assert left == []


def test_the_log_of_a_trial_is_an_artifact_of_its_run(run: Any, store: Store) -> None:
    result = run("fails", limits={"max_trials": 1})
    trial = store.history(store.get(result.run_id))[0]
    assert "ValueError: no good" in store.read_artifact(trial.run_id, "log.txt").read_text()


def test_a_promoted_trial_trains_on_from_its_parents_checkpoint(run: Any) -> None:
    budget = {"parameter": "epochs", "min": 1, "max": 9, "eta": 3}
    parts = {"budget": budget, "algorithm": "hyperband", "limits": {"parallel_trials": 2}}
    result = run("trains_on", additional_metrics=["trained"], **parts)
    assert (result.verdict.end, len(result.trials)) == (End.EXHAUSTED, 22)
    spent = {trial.id: (trial.suggestion.budget, trial.observations["trained"]) for trial in result.trials}
    for trial in result.trials:
        before = 0 if trial.suggestion.parent is None else spent[result.trials[trial.suggestion.parent].id][0]
        assert spent[trial.id] == (trial.suggestion.budget, trial.suggestion.budget - before)


# functions that no module holds, as in a notebook


def test_a_function_that_cannot_be_imported_is_run_all_the_same(store: Store) -> None:
    offset = 0.25

    @kf.experiment(parameters={"x": kf.Float(0, 1)}, minimize="loss", max_trials=3, parallel_trials=2)
    def local_function(x: float) -> float:
        return abs(x - offset)

    result = local_function.run(store=store)
    assert [trial.observations["loss"] for trial in result.trials] == [
        abs(trial.assignment["x"] - 0.25) for trial in result.trials
    ]  # type: ignore[operator]
    assert len(resume_experiment(store, "local-function", max_trials=5).trials) == 5
    assert local_function(1.0) == 0.75


def test_a_result_is_a_table_and_says_what_is_best(run: Any) -> None:
    result = run("square", limits={"max_trials": 2})
    frame = result.to_pandas()
    assert list(frame["trial"]) == ["t00000", "t00001"]
    assert list(frame["x"]) == [trial.assignment["x"] for trial in result.trials]
    assert f"best {result.best.id}" in repr(result)
    assert json.dumps(frame["loss"].min()) == json.dumps(result.best.observations["loss"])


BESIDE = """\
name: beside
objective: {metric: loss, direction: minimize}
parameters: {x: {type: float, min: 0.1, max: 0.2}}
algorithm: {name: random, seed: 1}
limits: {max_trials: 1}
"""


@pytest.mark.parametrize(
    "trial", ['{command: [sh, train.sh, "${x}"]}', "{function: 'beside_the_spec:train'}"], ids=["command", "function"]
)
def test_files_and_modules_beside_the_spec_are_found_from_anywhere_and_on_resume(
    here: Path, store: Store, trial: str
) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "train.sh").write_text('echo "loss=$1"\n')
    (here / "sub" / "beside_the_spec.py").write_text("def train(x):\n    return x\n")
    (here / "sub" / "spec.yaml").write_text(f"{BESIDE}trial: {trial}\n")
    result = run_experiment(kf.load("sub/spec.yaml"), store=store)
    again = resume_experiment(store, result.run_id, max_trials=2)
    assert [each.observations["loss"] for each in again.trials] == [each.assignment["x"] for each in again.trials]


def test_a_program_that_is_nowhere_is_told_before_anything_is_recorded(here: Path, store: Store) -> None:
    (here / "spec.yaml").write_text(BESIDE + "trial: {command: [sh, trian.sh]}\n")
    with pytest.raises(InvalidSpec, match=rf"trial\.command\[1\]: found 'trian\.sh', need a file in {here}"):
        run_experiment(kf.load("spec.yaml"), store=store)
    assert store.records() == []
