"""A long history reads back whole: each trial once, whatever the pages, whatever comes in between."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracking_kit import BEGIN, Server, copied, ended, experiment, reported, written

from katib_flow.history import State, Suggestion, Trial
from katib_flow.tracking import Change, Record, Store
from katib_flow.tracking import runs as client_path
from katib_flow.tracking.api import Api, Page

MANY = 10_000


def filled(store: Store, trials: list[Trial]) -> Record:
    record = store.create(experiment())
    written(store, record, *trials)
    return record


def trial_at(index: int, second: float) -> Trial:
    assignment = {"lr": index / 7, "layers": index % 5, "activation": "relu"}
    started = BEGIN + second
    return Trial(Suggestion(index, assignment), State.SUCCEEDED, {"accuracy": 0.5}, started=started, ended=started + 1)


def assert_whole(store: Store, record: Record, count: int) -> None:
    history = store.history(record)
    assert [trial.index for trial in history] == list(range(count))
    assert all(trial.assignment == trial_at(trial.index, 0).assignment for trial in history)


@pytest.fixture
def pages_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_path, "PAGE", 10)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 21, 95])
@pytest.mark.usefixtures("pages_of_ten")
def test_a_history_of_several_pages_reads_back_whole(local: Store, sqlite_uri: str, count: int) -> None:
    record = filled(local, [trial_at(index, index) for index in range(count)])
    assert_whole(Store(sqlite_uri, thin=False), record, count)


@pytest.mark.parametrize("second", [lambda index: 0, lambda index: index // 25, lambda index: 10**6 * (index > 30)])
@pytest.mark.usefixtures("pages_of_ten")
def test_trials_that_started_at_the_same_moment_are_read_once_each(local: Store, sqlite_uri: str, second: Any) -> None:
    record = filled(local, [trial_at(index, second(index)) for index in range(60)])
    assert_whole(Store(sqlite_uri, thin=False), record, 60)


@pytest.mark.usefixtures("pages_of_ten")
def test_pages_of_a_server_fit_together(server: Server, group: str) -> None:
    store = Store(server.uri, group)
    record = store.create(experiment())
    written(Store(f"sqlite:///{server.database}", group), record, *(trial_at(index, index // 7) for index in range(95)))
    assert_whole(store, record, 95)


class Busy:
    """A real store; another process records an earlier trial whenever a page has been read."""

    def __init__(self, api: Api, other: Store, record: Record) -> None:
        self._api, self._other, self._record = api, other, record
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def search(self, *arguments: Any, **keywords: Any) -> Page:
        page = self._api.search(*arguments, **keywords)
        self.written += 1
        written(self._other, self._record, trial_at(1000 + self.written, -self.written))
        return page


@pytest.mark.usefixtures("pages_of_ten")
def test_trials_that_come_while_a_history_is_read_hide_none_and_repeat_none(local: Store, sqlite_uri: str) -> None:
    record = filled(local, [trial_at(index, index // 3) for index in range(60)])
    reader = Store(sqlite_uri, thin=False)
    reader._runs._api = Busy(reader._runs._api, local, record)  # type: ignore[assignment]
    rows = reader._runs.rows(record.mlflow_experiment_id, record.run_id)
    ids = [row.tags["katib_flow.trial_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {f"t{index:05d}" for index in range(60)} <= set(ids)


@pytest.mark.usefixtures("pages_of_ten")
def test_experiments_that_come_while_they_are_listed_repeat_none(sqlite_uri: str) -> None:
    store = Store(sqlite_uri, thin=False)
    records = [store.create(experiment()) for _ in range(25)]
    listed = store._records({"katib_flow.kind": "experiment"})
    found = [next(listed) for _ in range(10)]
    store.create(experiment())
    found += list(listed)
    assert sorted(record.run_id for record in found) == sorted(record.run_id for record in records)


@pytest.fixture(scope="module")
def large(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Record]:
    """A store with an experiment of 10,000 trials; a hundred start in the same moment."""
    uri = copied(template, tmp_path_factory.mktemp("large"))
    store = Store(uri)
    record = store.create(experiment())
    for start in range(0, MANY, 500):
        written(store, record, *(trial_at(index, index // 100) for index in range(start, start + 500)))
    return uri, record


@pytest.mark.slow
@pytest.mark.parametrize("thin", [True, False])
def test_ten_thousand_trials_read_back_whole(large: tuple[str, Record], thin: bool) -> None:
    uri, record = large
    assert_whole(Store(uri, thin=thin), record, MANY)


@pytest.mark.slow
@pytest.mark.parametrize("thin", [True, False])
def test_one_of_ten_thousand_trials_is_read_by_its_id(large: tuple[str, Record], thin: bool) -> None:
    uri, record = large
    trial = Store(uri, thin=thin).trial(record, "t09999")
    assert trial is not None
    assert trial.assignment == trial_at(9999, 0).assignment


@pytest.mark.slow
def test_the_series_of_many_trials_read_back(local: Store, opened: Record, sqlite_uri: str) -> None:
    trials = [ended(index, 0.5) for index in range(300)]
    local.write(opened, [Change(trial, reported([trial.index, 0.5])) for trial in trials])
    for thin in (True, False):
        for trial in Store(sqlite_uri, thin=thin).history(opened, series=True):
            assert trial == replace(trials[trial.index], run_id=trial.run_id, series=trial.series)
            assert trial.series == {"accuracy": reported([trial.index, 0.5])}
