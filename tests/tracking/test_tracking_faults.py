"""A server that is faulty for a while loses nothing and records nothing twice; what does not pass is told at once."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracking_kit import BEGIN, Fault, Proxy, client_of, ended, experiment, pending, reported, written

from katib_flow.errors import NotFound, TrackingError
from katib_flow.history import Metric, State
from katib_flow.tracking import Change, Record, Status, Store
from katib_flow.tracking.faults import Faults, explain, http_status, shown

CREATE, LOG, UPDATE, SEARCH = "runs/create", "runs/log-batch", "runs/update", "runs/search"
CLASH = b'{"error_code": "BAD_REQUEST", "message": "(sqlite3.IntegrityError) UNIQUE constraint failed: params.key"}'
FULL = b'{"error_code": "BAD_REQUEST", "message": "QueuePool limit of size 5 overflow 10 reached, timeout 30.00"}'
PASSING = [
    pytest.param(Fault("", "answer", 503, times=3), id="503"),
    pytest.param(Fault("", "answer", 500, times=3), id="500"),
    pytest.param(Fault("", "answer", 502, b"<html>bad gateway</html>", times=3), id="502 in HTML"),
    pytest.param(Fault("", "answer", 429, times=3), id="429"),
    pytest.param(Fault("", "answer", 503, b'{"message": "no healthy upstream"}', times=3), id="503 in JSON"),
    pytest.param(Fault("", "answer", 400, CLASH, times=3), id="two wrote one row"),
    pytest.param(Fault("", "answer", 400, FULL, times=3), id="no connection of the server's is free"),
    pytest.param(Fault("", "drop", times=3), id="dropped"),
    pytest.param(Fault("", "lose", times=3), id="answer lost"),
]
EACH_KIND = [PASSING[0], *PASSING[-2:]]


@pytest.fixture
def faulty(proxy: Proxy, group: str) -> Store:
    return Store(proxy.uri, group)


def spoil(proxy: Proxy, fault: Fault, path: str) -> None:
    proxy.faults.append(replace(fault, path=path))


def runs_of(store: Store, record: Record) -> list[Any]:
    """Every run below an experiment, whatever it records."""
    found = client_of(store).search_runs(
        [record.mlflow_experiment_id], f"tags.`mlflow.parentRunId` = '{record.run_id}'", max_results=1000
    )
    return list(found)


@pytest.mark.parametrize("fault", PASSING)
def test_a_run_is_created_once_by_a_server_that_is_faulty_for_a_while(
    faulty: Store, proxy: Proxy, fault: Fault
) -> None:
    record = faulty.create(experiment())
    spoil(proxy, fault, CREATE)
    (trial,) = written(faulty, record, replace(pending(0), started=BEGIN))
    assert [run.info.run_id for run in runs_of(faulty, record)] == [trial.run_id]
    assert faulty.history(record)[0] == trial


@pytest.mark.parametrize("fault", EACH_KIND)
def test_an_experiment_is_created_once_by_a_server_that_is_faulty_for_a_while(
    faulty: Store, proxy: Proxy, fault: Fault
) -> None:
    spoil(proxy, fault, CREATE)
    record = faulty.create(experiment())
    assert faulty.records() == [record]


@pytest.mark.parametrize("fault", EACH_KIND)
def test_metrics_are_recorded_once_by_a_server_that_is_faulty_for_a_while(
    faulty: Store, proxy: Proxy, fault: Fault
) -> None:
    record = faulty.create(experiment())
    for path in (LOG, UPDATE):
        spoil(proxy, fault, path)
    points = reported([0.1, 0.2, 0.5])
    (trial,) = faulty.write(record, [Change(ended(0, 0.5), points)])
    assert faulty.history(record, series=True)[0] == replace(trial, series={"accuracy": points})
    assert runs_of(faulty, record)[0].info.status == "FINISHED"


@pytest.mark.parametrize("fault", EACH_KIND)
def test_a_history_is_read_whole_from_a_server_that_is_faulty_for_a_while(
    faulty: Store, proxy: Proxy, fault: Fault
) -> None:
    record = faulty.create(experiment())
    written(faulty, record, *(ended(index, 0.5) for index in range(3)))
    spoil(proxy, fault, SEARCH)
    assert [trial.index for trial in faulty.history(record)] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["answer", "drop", "lose"])
def test_artifacts_are_kept_by_a_server_that_is_faulty_for_a_while(
    faulty: Store, proxy: Proxy, kind: str, tmp_path: Path
) -> None:
    record = faulty.create(experiment())
    (tmp_path / "log").write_text("a line\n")
    proxy.faults.append(Fault("/log.txt", kind, times=3))
    (trial,) = faulty.write(record, [Change(pending(0), (), tmp_path / "log")])
    proxy.faults.append(Fault("/log.txt", kind, times=3))
    assert faulty.read_artifact(trial.run_id, "log.txt").read_text() == "a line\n"


def test_every_kind_of_call_failing_now_and_then_loses_nothing(faulty: Store, proxy: Proxy) -> None:
    kinds = ("answer", "drop", "lose")
    for path in ("experiments/create", "experiments/get-by-name", CREATE, LOG, UPDATE, SEARCH, "runs/get"):
        proxy.faults += [Fault(path, kind) for kind in kinds]
    record = faulty.create(experiment(), key="k")
    (trial,) = written(faulty, record, replace(pending(0), state=State.RUNNING, started=BEGIN))
    done = replace(ended(0, 0.5), run_id=trial.run_id)
    faulty.write(record, [Change(done, reported([0.5]))])
    faulty.summarise(record, faulty.history(record), Status.SUCCEEDED, "done")
    assert [each.status for each in faulty.records()] == [Status.SUCCEEDED]
    assert faulty.history(record, series=True)[0] == replace(done, series={"accuracy": reported([0.5])})
    assert len(runs_of(faulty, record)) == 1
    assert not any(fault.times for fault in proxy.faults)


def test_a_server_that_stays_away_is_told_once_the_patience_is_over(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri, group, patience_seconds=0.1)
    record = store.create(experiment())
    spoil(proxy, Fault("", times=10**6), LOG)
    with pytest.raises(TrackingError) as told:
        written(store, record, pending(0))
    assert str(told.value).startswith(f"MLflow at {proxy.uri} does not answer: ")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such thing"}', "no such thing"),
        (401, b"log in first", "refuses access (401): set MLFLOW_TRACKING_USERNAME"),
        (403, b"not you", "refuses access (403): set MLFLOW_TRACKING_USERNAME"),
        (404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}', "gone"),
        (404, b"<html>nothing here</html>", "404"),
        (405, b"not that way", "405"),
        (413, b"too much", "413"),
        (501, b'{"error_code": "NOT_IMPLEMENTED", "message": "no"}', "no"),
    ],
)
def test_an_error_that_does_not_pass_is_not_tried_again(
    faulty: Store, proxy: Proxy, status: int, body: bytes, told: str
) -> None:
    record = faulty.create(experiment())
    before = proxy.asked(LOG)
    proxy.faults.append(Fault(LOG, "answer", status, body))
    with pytest.raises(TrackingError) as error:
        written(faulty, record, pending(0))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert proxy.asked(LOG) == before + 1


def test_an_artifact_that_is_missing_is_not_tried_again(faulty: Store, proxy: Proxy) -> None:
    record = faulty.create(experiment())
    with pytest.raises(NotFound, match=r"has no artifact 'nothing\.txt'"):
        faulty.read_artifact(record.run_id, "nothing.txt")
    assert proxy.asked("/nothing.txt") == 1


@pytest.mark.parametrize("name", ["nothing.txt", "plots/nothing.txt"])
def test_an_artifact_that_is_missing_is_told_of_by_a_server_that_answers_500(
    faulty: Store, proxy: Proxy, name: str
) -> None:
    record = faulty.create(experiment())
    faulty.log_text(record, "x", "plots/best.svg")
    proxy.faults.append(Fault("/nothing.txt", "answer", 500, b'{"error_code": "INTERNAL_ERROR"}', times=2))
    with pytest.raises(NotFound, match=r"has no artifact '(plots/)?nothing\.txt'"):
        faulty.read_artifact(record.run_id, name)
    assert proxy.asked("/nothing.txt") == 1


@pytest.mark.parametrize("name", ["best.svg", "plots/best.svg"])
def test_an_artifact_that_is_there_is_asked_for_again_after_a_500(faulty: Store, proxy: Proxy, name: str) -> None:
    record = faulty.create(experiment())
    faulty.log_text(record, "x", name)
    proxy.faults.append(Fault("/best.svg", "answer", 500, b'{"error_code": "INTERNAL_ERROR"}'))
    assert faulty.read_artifact(record.run_id, name).read_text() == "x"


def test_the_environment_cannot_make_mlflow_open_a_second_run(
    faulty: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    record = faulty.create(experiment())
    proxy.faults.append(Fault(CREATE, "lose"))
    written(faulty, record, pending(0))
    assert len(runs_of(faulty, record)) == 1


def test_the_environment_cannot_make_mlflow_log_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    record = store.create(experiment())
    points = tuple(Metric("accuracy", number / 7, number, number) for number in range(500))
    store.write(record, [Change(ended(0, 0.5), points)])
    assert len(store.history(record, series=True)[0].series["accuracy"]) == 500


def test_a_user_s_own_settings_of_mlflow_stay(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    Store(proxy.uri)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("https://user:pa$$word@mlflow.example.com/x", "https://user@mlflow.example.com/x"),
        ("https://user:p@ss@host", "https://user@host"),
        ("https://user:p/ss@host", "https://user@host"),
        ("https://dapi0123456789@host", "https://host"),
        (
            "postgresql://db/mlflow?user=ada&password=secret&sslmode=require",
            "postgresql://db/mlflow?user=ada&password=&sslmode=require",
        ),
        ("postgresql://user:secret@db:5432/mlflow", "postgresql://user@db:5432/mlflow"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////tmp/a@b/store.db", "sqlite:////tmp/a@b/store.db"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, seen: str) -> None:
    assert shown(uri) == seen


class CloudError(Exception):
    """As boto3 tells of an error: its response is a dictionary."""

    def __init__(self, status: int) -> None:
        super().__init__(f"An error occurred (Whatever) when calling the GetObject operation: {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "Whatever"}}


@pytest.mark.parametrize(("status", "passes"), [(403, False), (404, False), (500, True), (503, True)])
def test_an_error_of_a_cloud_store_is_judged_by_its_status(status: int, passes: bool) -> None:
    assert http_status(CloudError(status)) == status
    assert Faults("http://host", 1).transient(CloudError(status)) is passes


def test_an_explanation_is_one_line_of_bounded_length() -> None:
    text = explain("http://host", ValueError(json.dumps("x" * 9999) + "\nand more"))
    assert "\n" not in text
    assert len(text) < 600


AWAY = [
    'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused',
    "connection is bad: no error details available",
    "server closed the connection unexpectedly",
    "terminating connection due to administrator command",
    "the connection is closed",
    'connection to server on socket "/s/.s.PGSQL.5432" failed: FATAL:  the database system is starting up',
    'connection to server at "db" failed: FATAL:  sorry, too many clients already',
    'could not translate host name "db" to address: Temporary failure in name resolution',
    "(2003, \"Can't connect to MySQL server on 'db:3306' (111)\")",
    "(2006, 'Server has gone away')",
    "(2013, 'Lost connection to server during query')",
]
REFUSED = [
    'connection failed: FATAL:  password authentication failed for user "ada"',
    'connection failed: FATAL:  database "mlflow" does not exist',
    "(1045, \"Access denied for user 'ada'@'localhost' (using password: YES)\")",
    "value too long for type character varying(500)",
    "value too long\n[SQL: INSERT INTO tags]\n[parameters: {'value': 'Connection refused'}]",
]


@pytest.mark.parametrize(("text", "passes"), [*((text, True) for text in AWAY), *((text, False) for text in REFUSED)])
def test_a_database_that_is_away_is_tried_again_and_one_that_refuses_is_not(text: str, passes: bool) -> None:
    faults = Faults("postgresql://db/mlflow", 1)
    assert faults.transient(RuntimeError(f"(psycopg.OperationalError) {text}")) == passes
