"""Experiments: opened once, found again, asked to stop."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import yaml
from tracking_kit import BEGIN, Server, client_of, experiment, pending, written

from katib_flow.errors import NotFound, TrackingError
from katib_flow.history import State
from katib_flow.tracking import Control, Record, Status, Store


def test_an_experiment_reads_back(store: Store) -> None:
    record = store.create(experiment(), key="k")
    assert (record.name, record.experiment, record.key) == ("digits", experiment(), "k")
    assert (record.status, record.reason, record.ended) == (Status.RUNNING, "", None)
    assert store.get(record.run_id) == store.keyed("k") == store.find("digits") == record


def test_an_experiment_of_the_same_key_is_the_same_one(store: Store) -> None:
    record = store.create(experiment(), key="k")
    assert store.create(experiment(name="other"), key="k") == record
    assert store.records() == [record]


def test_experiments_without_a_key_are_different_ones(store: Store) -> None:
    assert store.create(experiment()) != store.create(experiment())


def test_no_experiment_has_a_key_that_none_was_given(store: Store) -> None:
    store.create(experiment())
    assert store.keyed("k") is None
    assert store.keyed("") is None


def test_a_key_of_another_mlflow_experiment_is_another_key(store: Store) -> None:
    record = store.create(experiment(), key="k")
    other = Store(store.uri, f"{store.experiment}-b")
    assert other.keyed("k") is None
    assert other.create(experiment(), key="k") != record


def test_a_new_store_holds_no_experiment_and_is_not_written(store: Store) -> None:
    assert store.records() == []
    assert client_of(store).get_experiment_by_name(store.experiment) is None


def created_at_once(store: Store) -> list[Record]:
    records: list[Record] = []
    start = threading.Barrier(4)

    def create() -> None:
        start.wait()
        records.append(store.create(experiment(), key="k"))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return records


@pytest.mark.parametrize("thin", [True, False])
def test_threads_that_create_at_once_get_one_experiment(sqlite_uri: str, thin: bool) -> None:
    store = Store(sqlite_uri, thin=thin)
    (run_id,) = {record.run_id for record in created_at_once(store)}
    assert [record.run_id for record in store.records()] == [run_id]


def test_pods_that_create_at_once_agree_on_one_experiment_from_then_on(server: Server, group: str) -> None:
    store = Store(server.uri, group)
    records = created_at_once(store)
    agreed = store.create(experiment(), key="k")
    assert agreed in records
    assert store.keyed("k") == store.create(experiment(), key="k") == agreed


def test_an_experiment_that_was_half_written_is_completed(store: Store) -> None:
    record = store.create(experiment(), key="k")
    run = client_of(store).create_run(record.mlflow_experiment_id, tags=_tags(store, record), run_name="digits")
    client_of(store).delete_run(record.run_id)
    again = store.create(experiment(), key="k")
    assert again.run_id == run.info.run_id
    assert yaml.safe_load(store.read_artifact(again.run_id, "spec.yaml").read_text()) == experiment().to_dict()
    assert client_of(store).get_run(again.run_id).data.params["algorithm"] == "random"


def test_who_is_dropped_while_it_completes_its_run_takes_the_other(store: Store, monkeypatch: Any) -> None:
    """Of two pods that create at once, one finds both runs, and drops the other's under its hands."""
    write, other = store.log_text, list[str]()

    def dropped_before(record: Record, text: str, name: str) -> None:
        if not other:
            run = client_of(store).create_run(record.mlflow_experiment_id, tags=_tags(store, record), run_name="digits")
            other.append(run.info.run_id)
            client_of(store).delete_run(record.run_id)
        write(record, text, name)

    monkeypatch.setattr(store, "log_text", dropped_before)
    record = store.create(experiment(), key="k")
    assert [record.run_id] == other
    assert client_of(store).get_run(record.run_id).data.params["algorithm"] == "random"


def test_of_two_runs_of_one_key_the_whole_one_counts(store: Store) -> None:
    record = store.create(experiment(), key="k")
    client_of(store).create_run(record.mlflow_experiment_id, 1, _tags(store, record), "digits")  # long before it
    assert store.keyed("k") == record


def _tags(store: Store, record: Record) -> dict[str, str]:
    return dict(client_of(store).get_run(record.run_id).data.tags)


def test_the_newest_experiment_of_a_name_is_found(store: Store) -> None:
    records = [_created_at(store, BEGIN + second) for second in (3, 1, 2)]
    assert store.find("digits") == records[0]


def test_records_come_newest_first(store: Store) -> None:
    records = [_created_at(store, BEGIN + second) for second in (3, 1, 2)]
    assert store.records() == [records[0], records[2], records[1]]


def _created_at(store: Store, seconds: float) -> Record:
    record = store.create(experiment())
    tags = _tags(store, record)
    client_of(store).delete_run(record.run_id)
    run = client_of(store).create_run(record.mlflow_experiment_id, int(seconds * 1000), tags, "digits")
    return store.get(run.info.run_id)


def test_an_experiment_is_found_by_its_run_id_and_by_its_beginning(local: Store) -> None:
    record = local.create(experiment())
    assert local.find(record.run_id) == local.find(record.run_id[:6]) == record


def test_five_characters_of_a_run_id_are_too_few(local: Store) -> None:
    record = local.create(experiment())
    with pytest.raises(NotFound):
        local.find(record.run_id[:5])


def test_a_beginning_that_fits_two_runs_is_refused(local: Store) -> None:
    records = [local.create(experiment()) for _ in range(2)]
    for run_id, record in zip(("abcdef0" + "0" * 25, "abcdef1" + "0" * 25), records, strict=True):
        _renamed(local, record.run_id, run_id)
    with pytest.raises(NotFound, match="the ids of 2 runs begin like this; give more characters: abcdef"):
        local.find("abcdef")
    assert local.find("abcdef1").run_id.startswith("abcdef1")


def _renamed(store: Store, old: str, new: str) -> None:
    with store._backend._database.transaction() as connection:  # type: ignore[attr-defined]
        connection.execute("PRAGMA defer_foreign_keys = ON")
        for table in ("params", "tags", "metrics", "latest_metrics", "runs"):
            connection.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", (new, old))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", "digit: no such experiment in .*; did you mean 'digits'?"),
        ("unlike", "unlike: no such experiment in .*; the store has digits"),
        ("it's", "it's: no such experiment in"),
        ("'\"`%", "no such experiment in"),
        ("", "no such experiment in"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_what_is(store: Store, name: str, told: str) -> None:
    store.create(experiment())
    with pytest.raises(NotFound, match=told):
        store.find(name)


def test_an_empty_store_says_so(store: Store) -> None:
    with pytest.raises(NotFound, match="the store has no experiments"):
        store.find("digits")


def test_nothing_is_asked_of_a_new_experiment(store: Store, record: Record) -> None:
    assert store.control(record) == Control()


@pytest.mark.parametrize(
    "changes",
    [{"stop": True}, {"pause": True}, {"max_trials": 40}, {"timeout": 60.5}, {"stop": True, "max_trials": 1}],
)
def test_what_is_asked_reads_back(store: Store, record: Record, changes: dict[str, Any]) -> None:
    assert store.set_control(record, **changes) == Control(**changes)
    assert Store(store.uri, store.experiment).control(record) == Control(**changes)


def test_what_is_not_named_stays(store: Store, record: Record) -> None:
    store.set_control(record, pause=True, max_trials=40)
    store.set_control(record, pause=False)
    assert store.control(record) == Control(max_trials=40)


def test_what_was_asked_can_be_taken_back(store: Store, record: Record) -> None:
    store.set_control(record, max_trials=40, timeout=60)
    store.set_control(record, max_trials=None, timeout=None)
    assert store.control(record) == Control()


def test_only_the_time_for_which_it_runs_counts(local: Store, opened: Record) -> None:
    control = local.control(opened)
    assert control.running_seconds(opened, opened.started + 30) == 30
    first = local.go_on(replace(opened, ended=opened.started + 100), max_trials=40)
    assert (first.spent, first.max_trials, first.timeout) == (100, 40, None)
    assert first.resumed is not None
    assert first.running_seconds(opened, first.resumed + 5) == 105
    killed = local.go_on(opened, timeout=60)  # it was killed before it did anything
    assert (killed.spent, killed.timeout) == (100, 60)
    assert killed.resumed is not None
    assert killed.resumed >= first.resumed
    paused = killed.resumed + 50
    written(local, opened, replace(pending(0), state=State.SUCCEEDED, started=paused - 20, ended=paused))
    again = local.go_on(opened)
    assert again.spent == pytest.approx(150, abs=0.01)
    assert (again.max_trials, again.timeout) == (40, 60)


def test_nothing_unknown_can_be_asked(local: Store, opened: Record) -> None:
    with pytest.raises(TypeError):
        local.set_control(opened, explode=True)


def test_a_tag_that_was_edited_by_hand_is_told(local: Store, opened: Record) -> None:
    client_of(local).set_tag(opened.run_id, "katib_flow.stop", "yes")
    with pytest.raises(TrackingError, match=r"tag katib_flow\.stop: found 'yes', need JSON: true or false"):
        local.control(opened)


def test_the_first_workflow_is_segment_zero(store: Store, record: Record) -> None:
    assert store.segment(record) == 0


def test_a_segment_that_took_over_reads_back(store: Store, record: Record) -> None:
    store.set_segment(record, 3)
    assert Store(store.uri, store.experiment).segment(record) == 3
