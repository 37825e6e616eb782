"""The fast path of SQLite leaves a database as MLflow's own client does: every table, every column."""

import fcntl
import math
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tracking_kit import BEGIN, copied, ended, experiment, pending, reported, written

from katib_flow.errors import TrackingError
from katib_flow.history import Metric, State, Trial
from katib_flow.tracking import Change, Record, Store
from katib_flow.tracking.connect import alone
from katib_flow.tracking.runs import ApiBackend
from katib_flow.tracking.sqlite import SqliteBackend

Table = list[dict[str, Any]]
Scenario = Callable[[Store, Record], None]
RUNNING = replace(pending(0), state=State.RUNNING, started=BEGIN)


def tables(folder: Path) -> dict[str, Table]:
    """Every row of every table; what each store draws for itself is replaced by what it stands for."""
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        connection.row_factory = sqlite3.Row
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')] for name in names}
    drawn = {row["run_uuid"]: f"<run {row['name']}>" for row in rows["runs"]} | {str(folder): "<folder>"}
    drawn |= {row["value"]: "<hash>" for row in rows["tags"] if row["key"] == "katib_flow.key_hash"}
    for row in rows["runs"]:
        if row["name"] == "digits":
            row["start_time"] = row["end_time"] = "<now>"
    for row in rows["experiments"]:
        row["creation_time"] = row["last_update_time"] = "<now>"
    return {name: sorted((_told(row, drawn) for row in rows[name]), key=repr) for name in names}


def _told(row: dict[str, Any], drawn: dict[str, str]) -> dict[str, Any]:
    def told(value: Any) -> Any:
        for text, stands_for in drawn.items():
            value = value.replace(text, stands_for) if isinstance(value, str) else value
        return type(value).__name__, value

    return {name: told(value) for name, value in row.items()}


def left_by(scenario: Scenario, template: Path, folder: Path, *, thin: bool) -> dict[str, Table]:
    folder.mkdir()
    store = Store(copied(template, folder), thin=thin)
    scenario(store, store.create(experiment()))
    return tables(folder)


def new_pending(store: Store, record: Record) -> None:
    written(store, record, replace(pending(0), started=BEGIN), replace(pending(1, {"n": 1, "x/y": "é"}), started=BEGIN))


def new_running(store: Store, record: Record) -> None:
    store.write(record, [Change(RUNNING, reported([0.5, 0.25]))])


def new_and_final(store: Store, record: Record) -> None:
    store.write(record, [Change(ended(index, index / 7, state), reported([0.5])) for index, state in enumerate(FINAL)])


FINAL = [state for state in State if state.final]


def changed(store: Store, record: Record) -> None:
    (trial,) = written(store, record, RUNNING)
    store.write(record, [Change(trial, reported([0.5]))])
    store.write(record, [Change(replace(trial, message="slow", retries=1), reported([0.25], "loss"))])


def changed_and_final(store: Store, record: Record) -> None:
    (trial,) = store.write(record, [Change(RUNNING, reported([0.5]))])
    done = replace(ended(0, 0.75), run_id=trial.run_id)
    store.write(record, [Change(done, reported([0.5, 0.6, 0.75]))])


def started_again(store: Store, record: Record) -> None:
    (trial,) = written(store, record, ended(0, 0.5, State.KILLED))
    written(store, record, replace(trial, state=State.PENDING, started=None, ended=None, observations={}))
    written(store, record, replace(trial, state=State.RUNNING, started=BEGIN + 9, ended=None, observations={}))


def final_and_begun_again_in_one_write(store: Store, record: Record) -> None:
    (trial,) = written(store, record, RUNNING)
    killed = replace(trial, state=State.KILLED, ended=BEGIN + 2)
    written(store, record, killed, replace(trial, started=BEGIN + 3))


def new_and_final_in_one_write(store: Store, record: Record) -> None:
    written(store, record, RUNNING, ended(0, 0.5))


def written_twice(store: Store, record: Record) -> None:
    (trial,) = store.write(record, [Change(RUNNING, reported([0.5, math.nan]))])
    for _ in range(2):
        store.write(record, [Change(trial, reported([0.5, math.nan]))])
        store.write(record, [Change(RUNNING)], lookup=True)


def odd_numbers(store: Store, record: Record) -> None:
    store.write(record, [Change(ended(0, math.nan), reported([math.inf, -math.inf, math.nan, -0.0, 5e-324]))])


def unordered_steps(store: Store, record: Record) -> None:
    (trial,) = store.write(record, [Change(RUNNING, (Metric("m", 0.5, 3, 7), Metric("m", 0.9, 1, 9)))])
    points = (Metric("m", 0.1, 3, 7), Metric("m", 0.6, 3, 7), Metric("m", 0.2, 3, 6), Metric("m", 0.3, -1, 8))
    store.write(record, [Change(trial, points)])


def texts_that_are_cut(store: Store, record: Record) -> None:
    trial = replace(ended(0, 0.5), message="m" * 9000)
    written(
        store, record, trial, pending_text := replace(pending(1, {"t": "x" * 9000, "s": "𝄞" * 9000}), started=BEGIN)
    )
    written(store, record, replace(pending_text, state=State.FAILED, ended=BEGIN))


def files(store: Store, record: Record) -> None:
    trial = replace(ended(0, 0.5), suggestion=replace(pending(0).suggestion, topology={"vertices": []}))
    store.write(record, [Change(trial, (Metric("stats", (1.0, 2.0), 0, 1),))])


def the_experiment_too(store: Store, record: Record) -> None:
    written(store, record, *(ended(index, index / 10) for index in range(5)))
    store.set_control(record, pause=True, max_trials=7)


SCENARIOS: list[Scenario] = [
    new_pending,
    new_running,
    new_and_final,
    changed,
    changed_and_final,
    started_again,
    final_and_begun_again_in_one_write,
    new_and_final_in_one_write,
    written_twice,
    odd_numbers,
    unordered_steps,
    texts_that_are_cut,
    files,
    the_experiment_too,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_fast_path_leaves_what_the_client_leaves(scenario: Scenario, template: Path, tmp_path: Path) -> None:
    fast = left_by(scenario, template, tmp_path / "fast", thin=True)
    slow = left_by(scenario, template, tmp_path / "slow", thin=False)
    for name in slow:
        assert fast[name] == slow[name], name


_points = st.builds(
    Metric,
    st.sampled_from(["a", "b"]),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan, math.inf, -math.inf]),
    st.integers(-1, 2),
    st.integers(0, 2),
)
_states = st.sampled_from([RUNNING, replace(RUNNING, retries=1), ended(0, 0.5), ended(0, 0.7, State.KILLED)])
_groups = st.lists(st.lists(st.tuples(_states, st.lists(_points, max_size=3)), min_size=1, max_size=3), max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(groups=_groups)
def test_the_fast_path_leaves_what_the_client_leaves_whatever_the_order_of_events(
    groups: list[list[tuple[Trial, list[Metric]]]], template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def scenario(store: Store, record: Record) -> None:
        (trial,) = written(store, record, RUNNING)
        for group in groups:
            changes = [(replace(state, run_id=trial.run_id), tuple(points)) for state, points in group]
            store.write(record, [Change(*change) for change in changes])

    folder = tmp_path_factory.getbasetemp() / f"both-{uuid.uuid4().hex}"  # MLflow keeps files open: no path comes twice
    folder.mkdir()
    fast = left_by(scenario, template, folder / "fast", thin=True)
    slow = left_by(scenario, template, folder / "slow", thin=False)
    shutil.rmtree(folder)
    assert fast == slow


def test_the_fast_path_is_taken_on_sqlite(local: Store) -> None:
    assert isinstance(local._backend, SqliteBackend)


def test_the_fast_path_can_be_left_out(sqlite_uri: str) -> None:
    assert isinstance(Store(sqlite_uri, thin=False)._backend, ApiBackend)


def test_a_group_is_recorded_wholly_or_not_at_all(local: Store, opened: Record, sqlite_uri: str) -> None:
    with closing(sqlite3.connect(sqlite_uri.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON tags WHEN NEW.value = 't00001' "
            "BEGIN SELECT RAISE(ABORT, 'the second trial is refused'); END"
        )
    with pytest.raises(TrackingError, match="the second trial is refused"):
        written(local, opened, ended(0, 0.5), ended(1, 0.5))
    assert len(local.history(opened)) == 0


def test_a_lock_makes_no_file_that_another_user_could_have_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with alone(tmp_path / "mlflow.db"):
        other = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    assert list(tmp_path.iterdir()) == []
