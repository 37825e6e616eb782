"""Of a long history a step asks only for what may have changed, and reads the same as if it asked for all of it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracking_kit import BEGIN, Fault, Proxy, client_of, ended, experiment, pending, written

from katib_flow.history import State, Trial
from katib_flow.tracking import Record, Store, settled
from katib_flow.tracking.api import Api, Page
from katib_flow.tracking.encode import Row
from katib_flow.tracking.settled import ARTIFACT, Settled, packed, settle, unpacked


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds are a while, and one trial is worth it."""
    for name, value in {"WHILE_MS": 10_000, "LEAST": 1, "OPEN": 6}.items():
        monkeypatch.setattr(settled, name, value)


class Counting:
    """A real store that counts the runs it told of."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.told = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)

    def search(self, *arguments: Any, **keywords: Any) -> Page:
        page = self.api.search(*arguments, **keywords)
        self.told += len(page.runs)
        return page


def told(store: Store, record: Record) -> int:
    """How many runs a server tells of for one history."""
    counting = Counting(store._runs._api)
    store._runs._api = counting  # type: ignore[assignment]
    store.history(record)
    store._runs._api = counting.api
    return counting.told


@pytest.fixture(params=["client", pytest.param("server", marks=pytest.mark.xdist_group("mlflow-server"))])
def uri(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("sqlite_uri") if request.param == "client" else request.getfixturevalue("server").uri


def opened(uri: str, group: str) -> Store:
    return Store(uri, group, thin=uri.startswith("http"))  # never the file itself, which has no such copy


def test_a_step_is_told_of_what_is_new_alone(uri: str, group: str) -> None:
    store = opened(uri, group)
    record = store.create(experiment())
    written(store, record, *(ended(index, 0.5) for index in range(40)))
    store.history(record)
    written(store, record, ended(40, 0.5))
    assert told(opened(uri, group), record) <= 15
    assert [trial.index for trial in opened(uri, group).history(record)] == list(range(41))


def test_a_second_look_in_one_process_is_told_of_what_is_new_alone(uri: str, group: str) -> None:
    store = opened(uri, group)
    record = store.create(experiment())
    written(store, record, *(ended(index, 0.5) for index in range(40)))
    assert told(store, record) == 40
    assert told(store, record) <= 15


def test_a_history_that_is_known_in_part_keeps_its_series(uri: str, group: str) -> None:
    from tracking_kit import reported

    from katib_flow.tracking import Change

    store = opened(uri, group)
    record = store.create(experiment())
    store.write(record, [Change(ended(index, 0.5), reported([0.1, 0.5])) for index in range(20)])
    store.history(record)
    written(store, record, ended(20, 0.5))
    history = opened(uri, group).history(record, series=True)
    assert all(trial.series == {"accuracy": reported([0.1, 0.5])} for trial in history[:20])


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"[1, 2", mtime=0), gzip.compress(b"[1, [], [[1]]]", mtime=0)]
)
def test_a_damaged_copy_is_as_good_as_none(sqlite_uri: str, content: bytes, tmp_path: Path) -> None:
    store = Store(sqlite_uri, thin=False)
    record = store.create(experiment())
    written(store, record, *(ended(index, 0.5) for index in range(20)))
    (tmp_path / "damaged").write_bytes(content)
    store.log_artifact(record, tmp_path / "damaged", ARTIFACT)
    assert [trial.index for trial in Store(sqlite_uri, thin=False).history(record)] == list(range(20))


def test_a_copy_that_cannot_be_read_or_written_is_no_error(proxy: Proxy, group: str) -> None:
    store = opened(proxy.uri, group)
    record = store.create(experiment())
    proxy.faults.append(Fault(ARTIFACT, times=99))
    written(store, record, *(ended(index, 0.5) for index in range(20)))
    store.history(record)
    written(store, record, ended(20, 0.5))
    assert [trial.index for trial in opened(proxy.uri, group).history(record)] == list(range(21))


def test_a_run_of_a_clock_that_is_late_is_not_lost(uri: str, group: str) -> None:
    store = opened(uri, group)
    record = store.create(experiment())
    written(store, record, *(ended(index, 0.5) for index in range(20)))
    store.history(record)
    late = replace(pending(20), state=State.RUNNING, started=BEGIN - 3600)
    (late,) = written(store, record, late)
    assert opened(uri, group).history(record)[20] == late


def test_a_run_that_two_processes_open_out_of_order_is_not_lost(sqlite_uri: str, group: str) -> None:
    fast, slow = opened(sqlite_uri, group), opened(sqlite_uri, group)
    record = fast.create(experiment())
    written(fast, record, *(ended(index, 0.5) for index in range(20)))
    slow.history(record)  # and then it is held up for a while
    written(fast, record, ended(28, 0.5))
    fast.history(record)
    written(slow, record, ended(20, 0.5))
    assert [trial.index for trial in fast.history(record)] == [*range(21), 28]


def test_a_copy_reads_back(local: Store, opened: Record) -> None:
    written(local, opened, *(ended(index, 0.5) for index in range(20)))
    rows = {row.run_id: row for row in local._runs.rows(opened.mlflow_experiment_id, opened.run_id)}
    part = settle(rows, {"gone"}, 10**15)
    back = unpacked(packed(part))
    assert (back.open, back.since_ms, set(back.rows)) == (part.open, part.since_ms, set(part.rows))
    assert [row.tags["katib_flow.suggestion"] for row in back.rows.values()] == [
        row.tags["katib_flow.suggestion"] for row in part.rows.values()
    ]


_rows = st.builds(
    Row,
    st.uuids().map(lambda run_id: run_id.hex),
    st.integers(0, 60_000),
    st.none() | st.integers(0, 60_000),
    st.sampled_from(State).map(lambda state: {"katib_flow.state": str(state)}),
)


@given(rows=st.lists(_rows, min_size=1, max_size=12), now_ms=st.integers(0, 99_000))
def test_every_run_is_settled_or_open_or_young(rows: list[Row], now_ms: int) -> None:
    part = settle({row.run_id: row for row in rows}, (), now_ms)
    for row in rows:
        places = [row.run_id in part.rows, row.run_id in part.open, row.start_ms >= part.since_ms]
        assert places.count(True) == 1
    assert all(row.tags["katib_flow.state"] not in ("pending", "running", "killed") for row in part.rows.values())
    assert all(row.end_ms is not None and row.end_ms < now_ms - 10_000 for row in part.rows.values())


def test_nothing_settled_reads_back_as_nothing() -> None:
    assert unpacked(packed(Settled())) == Settled()


ROW = ["a", 1, 2, {"katib_flow.state": "succeeded"}, "file:///x", ["loss"]]


def test_a_row_reads_back() -> None:
    (row,) = unpacked(gzip.compress(json.dumps([7, [], [ROW]]).encode())).rows.values()
    assert (row.run_id, row.end_ms) == ("a", 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        gzip.compress(b"[" * 5000, mtime=0),
        gzip.compress(b"[]", mtime=0)[:-3],
        *(
            gzip.compress(json.dumps(data).encode(), mtime=0)
            for data in (
                "abc",
                ["x", [], []],
                [7, [3], []],
                [7, [], ["abcdef"]],
                [7, [], [[*ROW[:1], "1", *ROW[2:]]]],
                [7, [], [[*ROW[:3], "tags", *ROW[4:]]]],
                [7, [], [[*ROW[:3], {}, *ROW[4:]]]],
                [7, [], [[*ROW[:3], {"katib_flow.state": 1}, *ROW[4:]]]],
            )
        ),
    ],
)
def test_what_is_damaged_is_as_if_it_were_not_there(content: bytes) -> None:
    assert unpacked(content) == Settled()


_who = st.sampled_from([0, 1])
_number = st.integers(0, 12)
_events = st.one_of(
    st.tuples(st.just("new"), _who, st.sampled_from([0.0, -8.0])),
    st.tuples(st.just("read"), _who),
    st.tuples(st.just("end"), _who, _number, st.sampled_from([State.SUCCEEDED, State.FAILED, State.KILLED])),
    st.tuples(st.just("again"), _who, _number),
    st.tuples(st.just("delete"), _number),
    st.tuples(st.just("restore"), _number),
    st.tuples(st.just("restart"), _who),
)


class World:
    """Two processes that read and write through a client, and one that reads all there is each time."""

    def __init__(self, uri: str) -> None:
        self.uri, self.now = uri, BEGIN
        self.all = Store(uri)
        self.record = self.all.create(experiment())
        self.stores = [Store(uri, thin=False), Store(uri, thin=False)]
        states = [State.SUCCEEDED, State.KILLED, State.FAILED] * 3
        self.trials = written(self.all, self.record, *(ended(index, 0.5, state) for index, state in enumerate(states)))
        self.now += 30  # they ended a while ago
        for who in (0, 1):
            self.read(who)

    def happen(self, event: tuple[Any, ...]) -> None:
        self.now += 3
        getattr(self, event[0])(*event[1:])

    def new(self, who: int, skew: float) -> None:
        trial = replace(pending(len(self.trials)), state=State.RUNNING, started=self.now + skew)
        self.trials += written(self.stores[who], self.record, trial)

    def read(self, who: int) -> None:
        assert self.stores[who].history(self.record) == self.all.history(self.record)

    def end(self, who: int, number: int, state: State) -> None:
        """End a running trial, the first from a number on."""
        for index, trial in self._in(State.RUNNING, number):
            self._write(who, index, replace(trial, state=state, ended=self.now, observations={"accuracy": 0.5}))

    def again(self, who: int, number: int) -> None:
        for index, trial in self._in(State.KILLED, number):
            again = replace(trial, state=State.RUNNING, started=self.now, ended=None, observations={})
            self._write(who, index, again)

    def delete(self, number: int) -> None:
        client_of(self.all).delete_run(self.trials[number % len(self.trials)].run_id)

    def restore(self, number: int) -> None:
        client_of(self.all).restore_run(self.trials[number % len(self.trials)].run_id)

    def restart(self, who: int) -> None:
        self.stores[who] = Store(self.uri, thin=False)

    def _in(self, state: State, number: int) -> list[tuple[int, Trial]]:
        """The first trial from a number on that is in a state, with its place; none where none is."""
        places = [place % len(self.trials) for place in range(number, number + len(self.trials))]
        return [(place, self.trials[place]) for place in places if self.trials[place].state is state][:1]

    def _write(self, who: int, index: int, trial: Trial) -> None:
        if client_of(self.all).get_run(trial.run_id).info.lifecycle_stage == "active":
            (self.trials[index],) = written(self.stores[who], self.record, trial)


@pytest.fixture(scope="module")
def world_uri(shared_uri: str) -> str:
    return shared_uri


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(_events, min_size=20, max_size=40))
def test_whatever_happens_a_history_reads_as_if_all_of_it_were_read(world_uri: str, events: list[Any]) -> None:
    world = World(world_uri)
    for event in events:
        world.happen(event)
    for who in (0, 1):
        world.read(who)
        world.restart(who)
        world.read(who)
