"""What other processes do while the tests look on: each function runs in one of its own."""

import os
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from tracking_kit import ended, experiment, pending, reported

import katib_flow as kf
from katib_flow.history import State
from katib_flow.tracking import Change, Recorder, Store


def create(start: Barrier, answer: Connection, uri: str) -> None:
    """Open a store that may not be there yet, and an experiment in it."""
    start.wait()
    answer.send(Store(uri).create(experiment(), key="k").run_id)


def record_many(start: Barrier, uri: str, name: str, *, thin: bool) -> None:
    start.wait()
    store = Store(uri, thin=thin)
    record = store.create(experiment(name=name))
    with Recorder(store, record, linger_seconds=0) as recorder:
        for index in range(60):
            recorder.queue(Change(replace(pending(index), state=State.RUNNING, started=1.0)))
            recorder.queue(Change(ended(index, index / 7), reported([index / 9, index / 7])))
            if index % 10 == 0:
                store.summarise(record, store.history(record))


def score(x: float) -> float:
    return 2 * x


def search(start: Barrier, uri: str, name: str, folder: str) -> None:
    """Run a real experiment of the local scheduler."""
    os.chdir(folder)
    decorate = kf.experiment(name=name, parameters={"x": kf.Float(0, 1)}, maximize="score", max_trials=25)
    start.wait()
    decorate(score).run(store=Store(uri))


def record_for_ever(told: Connection, uri: str) -> None:
    """Tell each trial whose end is durable."""
    store = Store(uri)
    record = store.create(experiment(), key="k")
    with Recorder(store, record, lambda trial: told.send(trial.id), linger_seconds=0) as recorder:
        for index in range(10**6):
            recorder.queue(Change(ended(index, 0.5)))
            if index % 20 == 0:
                recorder.flush()
