"""The thread that records for the local scheduler: it groups, keeps the order, and tells what went wrong."""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracking_kit import BEGIN, ended, pending, reported

from katib_flow.errors import TrackingError
from katib_flow.history import Metric, State, Trial
from katib_flow.tracking import Change, Record, Recorder, Store
from katib_flow.tracking.recorder import GROUP, merged

LONG = 3600.0  # seconds: nothing is written before it is asked for


class Watched:
    """A real store that tells which groups it was given, and can be held up before it writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.groups: list[list[str]] = []
        self.entered, self.may_go = threading.Event(), threading.Event()
        self.may_go.set()

    def write(self, record: Record, changes: Sequence[Change]) -> list[Trial]:
        self.groups.append([change.trial.id for change in changes])
        self.entered.set()
        assert self.may_go.wait(60)
        return self._store.write(record, changes)


@pytest.fixture
def watched(local: Store) -> Any:
    return Watched(local)


def running(index: int) -> Trial:
    return replace(pending(index), state=State.RUNNING, started=BEGIN)


def refusing(uri: str) -> None:
    """Make a store refuse every trial that is called t00001."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tags WHEN NEW.value = 't00001' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )


def test_what_was_put_is_recorded_once_the_recorder_is_closed(local: Store, opened: Record) -> None:
    with Recorder(local, opened, linger_seconds=LONG) as recorder:
        for index in range(3):
            recorder.queue(Change(ended(index, 0.5), reported([0.5])))
    assert [trial.state for trial in local.history(opened)] == [State.SUCCEEDED] * 3


def test_what_was_put_is_recorded_after_a_flush(local: Store, opened: Record) -> None:
    with Recorder(local, opened, linger_seconds=LONG) as recorder:
        recorder.queue(Change(running(0)))
        recorder.flush()
        assert [trial.state for trial in local.history(opened)] == [State.RUNNING]
        recorder.queue(Change(ended(0, 0.5)))
        recorder.flush()
        assert [trial.state for trial in local.history(opened)] == [State.SUCCEEDED]


def test_what_was_put_is_recorded_without_being_asked_for(local: Store, opened: Record) -> None:
    durable = threading.Event()
    with Recorder(local, opened, lambda trial: durable.set(), linger_seconds=0.001) as recorder:
        recorder.queue(Change(ended(0, 0.5)))
        assert durable.wait(60)


def test_changes_that_wait_together_are_one_write(watched: Any, opened: Record) -> None:
    with Recorder(watched, opened, linger_seconds=LONG) as recorder:
        for index in range(5):
            recorder.queue(Change(running(index)))
            recorder.queue(Change(ended(index, 0.5)))
        recorder.flush()
    assert watched.groups == [[f"t{index:05d}" for index in range(5)]]


def test_changes_that_come_during_a_write_are_the_next_one(watched: Any, opened: Record) -> None:
    with Recorder(watched, opened, linger_seconds=0) as recorder:
        watched.may_go.clear()
        recorder.queue(Change(running(0)))
        assert watched.entered.wait(60)
        for index in (2, 1, 3):
            recorder.queue(Change(running(index)))
        watched.may_go.set()
        recorder.flush()
    assert watched.groups == [["t00000"], ["t00002", "t00001", "t00003"]]


def test_a_full_group_is_written_without_waiting_for_more(local: Store, opened: Record) -> None:
    durable = threading.Semaphore(0)
    with Recorder(local, opened, lambda trial: durable.release(), linger_seconds=LONG) as recorder:
        for index in range(GROUP):
            recorder.queue(Change(ended(index, 0.5)))
        assert all(durable.acquire(timeout=60) for _ in range(GROUP))


def test_a_flush_of_several_groups_waits_for_no_more(watched: Any, opened: Record) -> None:
    with Recorder(watched, opened, linger_seconds=LONG) as recorder:
        watched.may_go.clear()
        recorder.queue(Change(running(0)))
        flushing = threading.Thread(target=recorder.flush)
        flushing.start()
        assert watched.entered.wait(60)
        for index in range(1, 2 * GROUP + 2):
            recorder.queue(Change(running(index)))
        watched.may_go.set()
        recorder.flush()
        flushing.join(60)
    assert [len(group) for group in watched.groups] == [1, GROUP, GROUP, 1]


def test_a_trial_keeps_the_run_it_was_first_recorded_in(local: Store, opened: Record) -> None:
    with Recorder(local, opened, linger_seconds=LONG) as recorder:
        for trial in (running(0), ended(0, 0.5)):
            recorder.queue(Change(trial))
            recorder.flush()
        assert recorder.run_id("t00000") == local.history(opened)[0].run_id
        assert recorder.run_id("t00001") == ""
    assert len(local.history(opened)) == 1


def test_the_end_of_a_trial_is_told_when_another_process_can_read_it(
    local: Store, opened: Record, sqlite_uri: str
) -> None:
    seen: list[tuple[str, State]] = []

    def look(trial: Trial) -> None:
        with closing(sqlite3.connect(sqlite_uri.removeprefix("sqlite:///"))) as connection:
            query = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'katib_flow.state'"
            seen.append((trial.id, State(connection.execute(query, (trial.run_id,)).fetchone()[0])))

    with Recorder(local, opened, look, linger_seconds=0) as recorder:
        for index in range(20):
            recorder.queue(Change(running(index)))
            recorder.queue(Change(ended(index, 0.5)))
    assert seen == [(f"t{index:05d}", State.SUCCEEDED) for index in range(20)]


def test_nothing_is_told_of_a_trial_that_runs(local: Store, opened: Record) -> None:
    told: list[Trial] = []
    with Recorder(local, opened, told.append) as recorder:
        recorder.queue(Change(running(0)))
    assert told == []


def test_nothing_is_told_of_a_write_that_failed(local: Store, opened: Record, sqlite_uri: str) -> None:
    refusing(sqlite_uri)
    told: list[Trial] = []
    recorder = Recorder(local, opened, told.append, linger_seconds=LONG)
    recorder.queue(Change(ended(0, 0.5)))
    recorder.queue(Change(ended(1, 0.5)))
    with pytest.raises(TrackingError):
        recorder.close()
    assert told == []


@pytest.mark.parametrize("call", ["queue", "flush", "close"])
def test_an_error_of_the_thread_reaches_the_caller(local: Store, opened: Record, sqlite_uri: str, call: str) -> None:
    refusing(sqlite_uri)
    recorder = Recorder(local, opened, linger_seconds=LONG)
    recorder.queue(Change(ended(1, 0.5)))
    with pytest.raises(TrackingError, match=r"the MLflow store cannot be used: .*no"):
        recorder.flush()
    with pytest.raises(TrackingError, match=r"the MLflow store cannot be used: .*no"):
        recorder.queue(Change(ended(2, 0.5))) if call == "queue" else getattr(recorder, call)()


def test_an_error_of_whoever_is_told_reaches_the_caller(local: Store, opened: Record) -> None:
    def fail(trial: Trial) -> None:
        raise OSError("the spool is gone")

    recorder = Recorder(local, opened, fail, linger_seconds=LONG)
    recorder.queue(Change(ended(0, 0.5)))
    with pytest.raises(TrackingError, match="the spool is gone"):
        recorder.flush()


def test_what_ended_the_block_is_told_before_what_closing_brings(local: Store, opened: Record, sqlite_uri: str) -> None:
    refusing(sqlite_uri)
    with pytest.raises(KeyError), Recorder(local, opened, linger_seconds=LONG) as recorder:  # noqa: PT012
        recorder.queue(Change(ended(1, 0.5)))
        raise KeyError("first")


def test_a_closed_recorder_takes_nothing_more(local: Store, opened: Record) -> None:
    recorder = Recorder(local, opened)
    recorder.close()
    with pytest.raises(TrackingError, match="the recorder is closed"):
        recorder.queue(Change(ended(0, 0.5)))


def test_a_recorder_can_be_flushed_and_closed_again(local: Store, opened: Record) -> None:
    recorder = Recorder(local, opened)
    for _ in range(2):
        recorder.close()
        recorder.flush()


def test_threads_that_put_at_once_lose_nothing(local: Store, opened: Record) -> None:
    def put(first: int) -> None:
        for index in range(first, first + 50):
            recorder.queue(Change(running(index)))
            recorder.queue(Change(running(index), reported([0.5])))
            recorder.queue(Change(ended(index, 0.5)))

    with Recorder(local, opened, linger_seconds=0) as recorder:
        threads = [threading.Thread(target=put, args=(first,)) for first in (0, 50, 100, 150)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    history = local.history(opened, series=True)
    assert [trial.index for trial in history] == list(range(200))
    assert all(trial.state is State.SUCCEEDED and trial.series == {"accuracy": reported([0.5])} for trial in history)


def test_many_reports_of_one_trial_are_recorded_in_their_order(local: Store, opened: Record) -> None:
    points = reported([float(number % 7) for number in range(5000)])
    with Recorder(local, opened, linger_seconds=LONG) as recorder:
        for point in points:
            recorder.queue(Change(running(0), (point,)))
    assert local.history(opened, series=True)[0].series["accuracy"] == points


_changes = st.builds(
    Change,
    st.sampled_from([running(0), replace(running(0), run_id="r"), ended(0, 0.5)]),
    st.lists(st.builds(Metric, st.just("m"), st.floats(allow_nan=False)), max_size=2).map(tuple),
    st.none() | st.builds(Path, st.sampled_from("ab")),
    st.dictionaries(st.sampled_from("xy"), st.builds(Path, st.sampled_from("ab"))),
)


@given(changes=st.lists(_changes, min_size=1, max_size=5))
def test_merged_changes_say_all_that_they_said_one_by_one(changes: list[Change]) -> None:
    one = merged(changes)
    assert replace(one.trial, run_id="") == replace(changes[-1].trial, run_id="")
    assert one.trial.run_id == ("r" if any(change.trial.run_id for change in changes) else "")
    assert list(one.metrics) == [metric for change in changes for metric in change.metrics]
    assert one.log == next((change.log for change in reversed(changes) if change.log), None)
    expected: dict[str, Path] = {}
    for change in changes:
        expected.update(change.artifacts)
    assert one.artifacts == expected
