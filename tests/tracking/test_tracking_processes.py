"""Several processes on one SQLite file: none waits for ever, none loses what it recorded."""

import contextlib
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import tracking_writers
from tracking_kit import BEGIN, client_of

from katib_flow.history import State
from katib_flow.tracking import Store

pytestmark = pytest.mark.slow
SECONDS = 120  # the most that a process may take


@pytest.fixture(scope="module")
def context() -> Any:
    """Processes that begin with MLflow imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "katib_flow.local", "katib_flow.tracking.store"])
    return context


def ended_well(processes: list[BaseProcess]) -> bool:
    for process in processes:
        process.join(SECONDS)
    return [process.exitcode for process in processes] == [0] * len(processes)


def started(context: Any, target: Any, *arguments: tuple[Any, ...], **keywords: Any) -> list[BaseProcess]:
    processes = [context.Process(target=target, args=each, kwargs=keywords) for each in arguments]
    for process in processes:
        process.start()
    return processes


def test_processes_that_open_a_new_store_at_once_agree_on_one_experiment(context: Any, tmp_path: Path) -> None:
    uri, start = f"sqlite:///{tmp_path}/new/store.db", context.Barrier(4)
    pipes = [context.Pipe(duplex=False) for _ in range(4)]
    assert ended_well(started(context, tracking_writers.create, *((start, pipe[1], uri) for pipe in pipes)))
    (run_id,) = {pipe[0].recv() for pipe in pipes}
    assert [record.run_id for record in Store(uri).records()] == [run_id]


@pytest.mark.parametrize("thin", [True, False])
def test_processes_that_record_at_once_lose_nothing(context: Any, sqlite_uri: str, thin: bool) -> None:
    start, names = context.Barrier(2), ("writer-a", "writer-b")
    writers = started(context, tracking_writers.record_many, *((start, sqlite_uri, name) for name in names), thin=thin)
    assert ended_well(writers)
    store = Store(sqlite_uri)
    for name in names:
        history = store.history(store.find(name), series=True)
        assert [trial.index for trial in history] == list(range(60))
        assert all(trial.state is State.SUCCEEDED for trial in history)
        assert all(trial.observations == {"accuracy": trial.index / 7} for trial in history)
        assert all(len(trial.series["accuracy"]) == 2 for trial in history)


def test_two_schedulers_on_one_store_lose_nothing(context: Any, sqlite_uri: str, tmp_path: Path) -> None:
    start, names = context.Barrier(2), ("search-a", "search-b")
    searches = started(context, tracking_writers.search, *((start, sqlite_uri, name, str(tmp_path)) for name in names))
    assert ended_well(searches)
    store = Store(sqlite_uri)
    for name in names:
        record = store.find(name)
        history = store.history(record)
        assert [trial.index for trial in history] == list(range(25))
        assert all(trial.observations["score"] == 2 * trial.assignment["x"] for trial in history)
        assert client_of(store).get_run(record.run_id).data.metrics["trials/succeeded"] == 25


def test_what_a_killed_process_said_is_recorded_is_there(context: Any, sqlite_uri: str) -> None:
    answers, told = context.Pipe(duplex=False)
    (process,) = started(context, tracking_writers.record_for_ever, (told, sqlite_uri))
    told.close()
    said = [answers.recv() for _ in range(300)]
    process.kill()
    process.join()
    with contextlib.suppress(EOFError):
        while True:
            said.append(answers.recv())
    store = Store(sqlite_uri)
    record = store.keyed("k")
    assert record is not None
    found = {trial.id: trial for trial in store.history(record)}
    assert set(said) <= set(found)
    assert all(trial.state is State.SUCCEEDED and (trial.started or 0) >= BEGIN for trial in found.values())
