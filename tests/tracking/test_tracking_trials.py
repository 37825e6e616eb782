"""Which trials are read, and which run a change goes to."""

from dataclasses import replace

from tracking_kit import BEGIN, client_of, ended, experiment, pending, written

from katib_flow.history import State
from katib_flow.tracking import Change, Record, Store


def test_one_trial_is_read_by_its_id(store: Store, record: Record) -> None:
    trials = written(store, record, ended(0, 0.5), ended(10, 0.6), ended(1, 0.7))
    assert store.trial(record, "t00010") == trials[1]
    assert store.trial(record, "t00099") is None
    assert store.trial(record, "it's") is None


def test_trials_of_another_experiment_are_not_read(store: Store, record: Record) -> None:
    written(store, record, ended(0, 0.5))
    other = store.create(experiment())
    assert len(store.history(other)) == 0
    assert store.trial(other, "t00000") is None


def test_a_change_that_is_looked_up_goes_to_the_run_that_is_there(store: Store, record: Record) -> None:
    first = store.write(record, [Change(pending(index)) for index in range(3)], lookup=True)
    again = store.write(record, [Change(pending(index)) for index in range(5)], lookup=True)
    assert [trial.run_id for trial in again[:3]] == [trial.run_id for trial in first]
    assert [trial.index for trial in store.history(record)] == [0, 1, 2, 3, 4]


def test_a_trial_recorded_twice_is_read_once_and_the_one_that_ended_counts(store: Store, record: Record) -> None:
    written(store, record, ended(0, 0.5))
    written(store, record, replace(pending(0), state=State.RUNNING, started=BEGIN + 50))
    (trial,) = store.history(record)
    assert trial.state is State.SUCCEEDED
    assert store.trial(record, "t00000") == trial


def test_a_run_that_was_deleted_is_not_read(store: Store, record: Record) -> None:
    trials = written(store, record, ended(0, 0.5), ended(1, 0.5))
    client_of(store).delete_run(trials[0].run_id)
    assert store.history(record).trials == tuple(trials[1:])


def test_what_user_code_recorded_below_the_experiment_is_no_trial(store: Store, record: Record) -> None:
    tags = {"mlflow.parentRunId": record.run_id, "katib_flow.note": "mine"}
    client_of(store).create_run(record.mlflow_experiment_id, tags=tags)
    assert len(store.history(record)) == 0


def test_a_run_has_the_id_that_was_reserved_for_it(store: Store) -> None:
    record = store.create(experiment())
    reserved = store.reserve(record, "t00000")
    assert store.reserve(record, "t00000") == reserved
    first, second = written(store, record, ended(0, 0.5), ended(1, 0.5))
    assert first.run_id == (reserved or first.run_id) != second.run_id
    assert [trial.run_id for trial in store.history(record)] == [first.run_id, second.run_id]


def test_an_id_is_reserved_where_the_store_is_a_file(local: Store, opened: Record) -> None:
    reserved = local.reserve(opened, "t00000")
    assert len(reserved) == 32
    assert written(local, opened, ended(0, 0.5))[0].run_id == reserved
