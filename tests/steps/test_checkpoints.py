"""Checkpoints are kept while a trial runs: pods that are killed outright, as real processes, and their successors."""

import contextlib
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hand import Hand, Process
from kit import needs_busybox

from katib_flow.argo.steps import train
from katib_flow.argo.steps.context import Context
from katib_flow.argo.steps.keeper import Keeper
from katib_flow.argo.steps.models import build_models
from katib_flow.argo.steps.suggest import suggest_iteration
from katib_flow.errors import TrackingError
from katib_flow.history import Metric, State, Suggestion, Trial
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Recorder, Store
from katib_flow.tracking.checkpoints import Checkpoints
from katib_flow.trial import archive
from katib_flow.trial.protocol import TrialDirectory

SECONDS = 60.0  # after which a test gives up

MODULE = """\
import pathlib, time
import katib_flow as kf

SCORES = [0.1, 0.9, 0.3, 0.4, 0.5, 0.6]

def train(x):
    state = kf.checkpoint_dir() / "epoch"
    done = int(state.read_text()) if state.exists() else 0
    for epoch in range(done + 1, 7):
        kf.report(score=SCORES[epoch - 1], step=epoch)
        if epoch in (2, 5):
            part = state.with_suffix(".part")
            part.write_text(str(epoch))
            part.replace(state)
        wait(epoch)

def classify(epochs, statistics):
    from katib_flow.training import classify
    for metrics in classify(epochs=epochs, statistics=statistics, train_size=256):
        yield metrics
        wait(metrics["step"])

def wait(epoch):
    while not pathlib.Path(f"after-{epoch}").exists():
        time.sleep(0.02)
"""
SHELL = """\
scores="0.1 0.9 0.3 0.4 0.5 0.6"; set -- $scores
[ -f "$DIR/epoch" ] && done=$(cat "$DIR/epoch") || done=0
for epoch in 1 2 3 4 5 6; do
  score=$1; shift
  [ $epoch -le $done ] && continue
  echo "score=$score step=$epoch"
  case $epoch in 2|5) echo $epoch > "$DIR/part"; mv "$DIR/part" "$DIR/epoch";; esac
  while [ ! -f after-$epoch ]; do sleep 0.02; done
done
"""
CONTAINER = {"image": "any", "command": ["sh", "-c", SHELL], "env": {"DIR": "${trial.checkpoint_dir}"}}


@pytest.fixture
def hand(tmp_path: Path, uri: str) -> Any:
    image = tmp_path / "image"
    image.mkdir()
    (image / "user_module.py").write_text(MODULE)

    def make(name: str = "killed", **changes: Any) -> Hand:
        data: dict[str, Any] = {
            "name": "kept",
            "objective": {"metric": "score", "direction": "maximize"},
            "metrics": {"strategy": {"score": "max"}},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 1},
            "trial": {"function": "user_module:train"},
        }
        argo = {"image": "user:1", "checkpoints": {"every": 0.5}}
        made = Experiment.parse({**data, "argo": argo, **changes})
        return Hand(made, image, uri, tmp_path / name, run=f"{name}-{tmp_path.name}")

    return make


@dataclass
class Pod:
    """A pod that runs, every container a process."""

    processes: list[Process]
    directory: Path

    def kill(self) -> None:
        """As a machine that is switched off: no process has a moment left."""
        for pid in [pid for each in self.processes for pid in (each.pid, *below(each.pid))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for each in self.processes:
            each.wait(SECONDS)


def below(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    return [each for child in map(int, found) for each in (child, *below(child))]


def start(workflow: Hand, **inputs: str) -> Pod:
    """Start the trial's pod, and leave it running."""
    template = workflow.templates["trial"]
    workflow.started += 1
    directory = workflow.scratch / f"{workflow.started:03}-trial"
    (directory / "tmp").mkdir(parents=True)
    for each in template.get("initContainers", []):
        assert workflow._start(each, inputs, directory).wait(SECONDS) == 0
    containers = [*template.get("sidecars", []), template["container"]]
    return Pod([workflow._start(each, inputs, directory) for each in containers], directory)


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := true():
            return found
        threading.Event().wait(0.25)
    raise AssertionError(f"{what}: not within {SECONDS} s")


def suggested(workflow: Hand) -> tuple[Store, Any, Trial]:
    """What the steps before a trial do, in this process."""
    store, record = workflow.store()
    context = Context(store, record, 0)
    [trial_id] = suggest_iteration(context, 1)
    build_models(context, 1)
    trial = store.trial(record, trial_id)
    assert trial is not None
    return store, record, trial


def open_gates(workflow: Hand, *epochs: int) -> None:
    for epoch in epochs:
        (workflow.image / f"after-{epoch}").touch()


def kept(store: Store, trial: Trial, name: str) -> bytes | None:
    """A file in the checkpoint that MLflow has."""
    file = store.checkpoints.find(trial.run_id)
    if file is None:
        return None
    with tarfile.open(file) as tar:
        member = tar.extractfile(f"./{name}") if f"./{name}" in tar.getnames() else None
        return member.read() if member else None


def series(trial: Trial, name: str = "score") -> list[tuple[int, Any]]:
    return [(metric.step, metric.value) for metric in trial.series[name]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["function", pytest.param("container", marks=needs_busybox)])
def test_a_pod_that_is_killed_outright_is_gone_on_with_from_what_was_kept(hand: Any, kind: str) -> None:
    workflow: Hand = hand(**({} if kind == "function" else {"trial": {"container": CONTAINER}}))
    store, record, trial = suggested(workflow)
    open_gates(workflow, 1)
    pod = start(workflow, id="t00000")
    until(lambda: (kept(store, trial, "epoch") or b"").strip() == b"2", "the checkpoint of epoch 2")
    open_gates(workflow, 2, 3)  # two more epochs, of which there is no checkpoint
    until(lambda: len(store.reported([trial], ["score"])["t00000"]) == 4, "four epochs in MLflow")
    pod.kill()
    [lost] = store.history(record)
    assert lost.state is State.RUNNING
    open_gates(workflow, 4, 5, 6)

    second = workflow.pod("trial", id="t00000")  # in a directory of its own
    assert second.exit_code == 0, second.log
    [trial] = store.history(record, series=True)
    assert (trial.state, trial.retries, trial.observations) == (State.SUCCEEDED, 1, {"score": 0.9})
    assert series(trial) == [(1, 0.1), (2, 0.9), (3, 0.3), (4, 0.4), (5, 0.5), (6, 0.6)]
    raw = [metric.step for metric in store.reported([trial], ["score"])["t00000"]]
    assert sorted(raw) == [1, 2, 3, 3, 4, 4, 5, 6]  # it went on after 2, and told 3 and 4 again


@needs_busybox
@pytest.mark.slow
@pytest.mark.parametrize(("exit_code", "left"), [(0, b"saved"), (143, b"1")])
def test_what_a_trial_saves_when_its_pod_is_told_to_go_counts_where_it_ends_well(
    hand: Any, exit_code: int, left: bytes
) -> None:
    script = f"""\
trap 'printf saved > "$DIR/state"; exit {exit_code}' TERM
printf 1 > "$DIR/state"; echo score=1
while :; do sleep 0.1; done"""
    workflow: Hand = hand(trial={"container": {**CONTAINER, "command": ["sh", "-c", script]}})
    store, record, trial = suggested(workflow)
    pod = start(workflow, id="t00000")
    until(lambda: kept(store, trial, "state") == b"1", "the first checkpoint")
    for process in pod.processes:
        process.terminate()
    assert [process.wait(SECONDS) for process in pod.processes] == [0, 143]
    assert kept(store, trial, "state") == left
    assert store.history(record)[0].state is State.RUNNING


@pytest.mark.slow
def test_a_training_that_is_killed_outright_gives_the_bits_of_one_that_was_not(
    hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs torch (the extra nas)")
    sections: dict[str, Any] = {
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "metrics": {},
        "architecture": {"space": "envelope", "settings": {"channels": 4, "stages": 1}},
        "parameters": {},
        "algorithm": "random",
        "trial": {"function": "user_module:classify", "arguments": {"epochs": 4, "statistics": True}},
    }

    def result(store: Store, record: Any) -> Any:
        [trial] = store.history(record, series=True)
        told = {name: [(each.step, each.value) for each in trial.series[name]] for name in trial.series}
        weights = store.read_artifact(trial.run_id, "weights.safetensors").read_bytes()
        assert store.checkpoints.find(trial.run_id) is None  # it needs none any more
        return trial.state, trial.observations, told, weights

    workflow = hand(**sections)
    store, record, trial = suggested(workflow)
    open_gates(workflow, 1)
    pod = start(workflow, id="t00000")
    until(lambda: kept(store, trial, "training.pt"), "a checkpoint")
    until(lambda: len(store.reported([trial], ["accuracy"])["t00000"]) == 2, "two epochs in MLflow")
    pod.kill()
    open_gates(workflow, 2, 3, 4)
    second = workflow.pod("trial", id="t00000")
    assert second.exit_code == 0, second.log
    straight = hand("straight", **sections)
    store_, record_, trial_ = suggested(straight)
    monkeypatch.chdir(straight.image)
    assert train.run(Context(store_, record_, 0), trial_.id, straight.scratch / "kf" / "trial") == 0
    assert result(store, record) == result(store_, record_)


# what the thread does, in this process


@pytest.fixture
def running(uri: str, tmp_path: Path) -> Any:
    """A trial that runs here, with a directory for its checkpoints."""

    def make(**argo: Any) -> tuple[Context, Trial, TrialDirectory]:
        data = {
            "name": "kept",
            "objective": {"metric": "score", "direction": "maximize"},
            "parameters": {"x": {"type": "float", "min": 0, "max": 1}},
            "limits": {"max_trials": 1},
            "trial": {"function": "user_module:train"},
            "argo": {"checkpoints": {"every": 0.01, **argo}},
        }
        store = Store(uri)
        context = Context(store, store.create(Experiment.parse(data), key=f"kept-{time.monotonic_ns()}"), 0)
        [trial] = store.write(context.record, [Change(Trial(Suggestion(0, {"x": 0.5})))])
        here = TrialDirectory(tmp_path / "kf" / "trial")
        here.create(context.experiment, trial.suggestion)
        return context, train.begin(context, trial), here

    return make


@pytest.fixture
def keeping(running: Any) -> Any:
    @contextlib.contextmanager
    def make(**argo: Any) -> Iterator[tuple[Keeper, Trial, Path, Store]]:
        context, trial, here = running(**argo)
        with (
            Recorder(context.store, context.record) as recorder,
            Keeper(context, trial, here, recorder) as keeper,
        ):
            yield keeper, trial, here.checkpoint, context.store

    return make


def test_nothing_is_kept_while_somebody_writes(keeping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, over = 0, threading.Event()
    listing = archive.listing

    def counted(directory: Path) -> archive.Listing:
        nonlocal looks
        looks += 1
        return listing(directory)

    with keeping() as (_, trial, checkpoint, store):

        def write() -> None:
            with (checkpoint / "weights").open("wb", buffering=0) as file:
                while not over.is_set():
                    file.write(bytes(100))
                    time.sleep(0.001)
                file.write(b"end")

        monkeypatch.setattr(archive, "listing", counted)
        writer = threading.Thread(target=write)
        writer.start()
        until(lambda: looks > 8, "some looks")
        assert store.checkpoints.find(trial.run_id) is None
        over.set()
        writer.join()
        assert until(lambda: kept(store, trial, "weights"), "a checkpoint").endswith(b"end")


def test_an_upload_that_fails_is_told_and_tried_again(
    keeping: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep, tries = Checkpoints.keep, 0

    def faulty(self: Checkpoints, *args: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TrackingError("the store is full")
        return keep(self, *args)

    monkeypatch.setattr(Checkpoints, "keep", faulty)
    with keeping() as (_, trial, checkpoint, store):
        (checkpoint / "weights").write_text("1")
        assert until(lambda: kept(store, trial, "weights"), "a checkpoint") == b"1"
    assert "t00000: cannot save its checkpoint: the store is full" in capsys.readouterr().err


def test_a_disk_that_is_full_is_told_once_and_fails_nothing(
    keeping: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[Path] = []

    def full(directory: Path, *_: Any) -> bool:
        tries.append(directory)
        raise OSError("No space left on device")

    monkeypatch.setattr(archive, "hold", full)
    with keeping() as (keeper, trial, checkpoint, store):
        (checkpoint / "weights").write_text("1")
        until(lambda: len(tries) > 2, "some tries")
        keeper.end(whole=True)
        assert store.checkpoints.find(trial.run_id) is None
    told = "t00000: cannot save its checkpoint: No space left on device\n"
    assert capsys.readouterr().err.count(told) == 1


def test_a_last_checkpoint_that_cannot_be_held_is_told(
    keeping: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with keeping() as (keeper, trial, checkpoint, store):
        (checkpoint / "weights").write_text("1")
        until(lambda: store.checkpoints.find(trial.run_id), "a checkpoint")
        monkeypatch.setattr(archive, "hold", lambda *_: False)  # somebody has written on in it
        (checkpoint / "weights").write_text("22")
        keeper.end(whole=True)
        assert kept(store, trial, "weights") == b"1"
    assert "t00000: cannot save its checkpoint: no consistent snapshot" in capsys.readouterr().err


def test_what_is_deleted_is_not_in_the_next_checkpoint(keeping: Any) -> None:
    with keeping() as (keeper, trial, checkpoint, store):
        (checkpoint / "epoch-1").write_text("1")
        until(lambda: store.checkpoints.find(trial.run_id), "a checkpoint")
        (checkpoint / "epoch-2").write_text("2")
        (checkpoint / "epoch-1").unlink()
        keeper.end(whole=True)
        archive.unpack(store.checkpoints.find(trial.run_id), checkpoint.parent / "again")
        assert [path.name for path in (checkpoint.parent / "again").iterdir()] == ["epoch-2"]


def test_what_a_killed_program_was_writing_leaves_the_checkpoint_before(keeping: Any) -> None:
    with keeping() as (keeper, trial, checkpoint, store):
        (checkpoint / "weights").write_text("whole")
        until(lambda: store.checkpoints.find(trial.run_id), "a checkpoint")
        (checkpoint / "weights").write_text("hal")
        keeper.end(whole=False)
        assert kept(store, trial, "weights") == b"whole"


def test_a_killed_program_has_its_last_whole_checkpoint_kept_however_young_it_is(keeping: Any) -> None:
    with keeping(every="1h") as (keeper, trial, checkpoint, store):
        (checkpoint / "weights").write_text("whole")
        until(lambda: (checkpoint.parent / ".held" / "weights").exists(), "a moment without a change")
        (checkpoint / "weights.part").write_text("hal")
        keeper.end(whole=False)
        assert kept(store, trial, "weights") == b"whole"
        assert kept(store, trial, "weights.part") is None


def test_a_trial_that_leaves_none_has_none(keeping: Any) -> None:
    with keeping() as (keeper, trial, checkpoint, store):
        (checkpoint / "weights").write_text("1")
        until(lambda: store.checkpoints.find(trial.run_id), "a checkpoint")
        (checkpoint / "weights").unlink()
        keeper.end(whole=True)
        assert store.checkpoints.find(trial.run_id) is None


def test_on_a_volume_nothing_is_uploaded(running: Any, tmp_path: Path) -> None:
    context, trial, here = running(claim="models", path=str(tmp_path / "volume"), every=300)
    here.checkpoint.mkdir(exist_ok=True)
    with Recorder(context.store, context.record) as recorder, Keeper(context, trial, here, recorder) as keeper:
        (here.checkpoint / "weights").write_text("1")
        keeper.end(whole=True)
    assert context.store.checkpoints.find(trial.run_id) is None


def test_a_trial_that_was_killed_after_its_last_epoch_has_what_it_reported(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    context, trial, here = running()
    (here.checkpoint / "epoch").write_text("6")
    points = tuple(Metric("score", score, step, int(time.time() * 1000)) for step, score in enumerate([0.1, 0.6], 5))
    context.store.write(context.record, [Change(trial, points)])
    with Recorder(context.store, context.record) as recorder, Keeper(context, trial, here, recorder) as keeper:
        keeper.end(whole=True)
    assert train.run(context, trial.id, tmp_path / "second" / "trial") == 0
    [ended] = context.store.history(context.record, series=True)
    assert (ended.state, ended.observations, series(ended)) == (State.SUCCEEDED, {"score": 0.6}, [(5, 0.1), (6, 0.6)])
