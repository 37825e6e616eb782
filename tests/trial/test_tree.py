"""What a trial leaves behind when nobody is there to end it, and who ends it then."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from katib_flow.history import Suggestion
from katib_flow.local import workers as workers_module
from katib_flow.local.worker import Run, Start
from katib_flow.local.workers import Lost, Workers
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory
from katib_flow.trial.tracked import Tracked
from katib_flow.trial.tree import NAME, end_left_over, note
from tests.kit import experiment, within

SLEEP = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys
first = subprocess.Popen([sys.executable, "-c", "{SLEEP}"])
second = subprocess.Popen([sys.executable, "-c", "{SLEEP}"], start_new_session=True)
print(first.pid, second.pid, flush=True)
"""
FUNCTION = """
import os, pathlib, subprocess, sys, time
def f(lr):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    pathlib.Path("pids.part").write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
    os.rename("pids.part", "pids")
    time.sleep(600)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialDirectory:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t00000").mkdir()
    return TrialDirectory(tmp_path / "t00000")


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_all_that_a_dead_trial_started_is_ended_whatever_session_it_is_in(directory: TrialDirectory) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True,
        env={**os.environ, TRIAL_FILE: str(directory.trial_file)},
    )  # fmt: skip
    assert leader.stdout is not None
    note(directory, leader.pid)
    left = [int(pid) for pid in leader.stdout.readline().split()]
    leader.wait()
    assert [is_there(pid) for pid in left] == [True, True]
    assert end_left_over(directory) == 2
    assert [is_there(pid) for pid in left] == [False, False]
    assert end_left_over(directory) == 0
    leader.stdout.close()


@pytest.mark.parametrize("change", [{"born": 1}, {"boot": "an earlier one"}])
def test_a_process_that_only_has_the_number_of_a_trial_is_left_alone(
    directory: TrialDirectory, change: dict[str, object]
) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    note(directory, stranger.pid)
    file = directory.path / NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert end_left_over(directory) == 0
    assert is_there(stranger.pid)
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "x"}', "null"])
def test_what_tells_of_no_process_ends_none(directory: TrialDirectory, text: str) -> None:
    (directory.path / NAME).write_text(text)
    assert end_left_over(directory) == 0


@pytest.fixture
def workers(directory: TrialDirectory) -> Iterator[Workers]:
    Path("tree_module.py").write_text(FUNCTION)
    spec = experiment(trial={"function": "tree_module:f"}).based_on(Path.cwd())
    reading, writing = os.pipe()  # as the lock: its writing end is held as long as a worker lives
    workers = Workers(Start(spec, None), 1, (writing,))
    workers.fill()
    os.close(writing)
    while not workers.idle():
        list(workers.events(1.0))
    (worker,) = workers.members
    worker.running = Run(Suggestion(0, {"lr": 0.1}), directory, Tracked("", "", ""))
    worker.send(worker.running)
    workers.reading = reading  # type: ignore[attr-defined]
    yield workers
    workers.close()
    os.close(reading)


def test_a_dead_worker_is_noticed_and_lets_go_of_its_lock_while_its_trial_s_children_live(
    workers: Workers, directory: TrialDirectory
) -> None:
    assert within(20, lambda: Path("pids").exists())
    worker, leader, child = map(int, Path("pids").read_text().split())
    os.kill(worker, signal.SIGHUP)  # a terminal that is closed is the scheduler's to handle
    assert list(workers.events(0)) == []
    os.kill(worker, signal.SIGKILL)
    ((_, lost),) = list(workers.events(20))
    assert lost == Lost(-signal.SIGKILL)
    assert wait([workers.reading], 5) == [workers.reading]  # type: ignore[attr-defined]
    assert is_there(child)
    assert within(5, lambda: not is_there(leader))
    assert end_left_over(directory) == 1
    assert not is_there(child)


def test_workers_end_although_a_thread_of_the_users_module_does_not(
    directory: TrialDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=[600]).start()\ndef f(lr): return lr\n"
    Path("thread_module.py").write_text(thread)
    monkeypatch.setattr(workers_module, "END_SECONDS", 0.1)
    spec = experiment(trial={"function": "thread_module:f"}).based_on(Path.cwd())
    workers = Workers(Start(spec, None), 2)
    workers.fill()
    while len(workers.idle()) < 2:
        list(workers.events(1.0))
    processes = [worker.process for worker in workers.members]
    workers.close()
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2
