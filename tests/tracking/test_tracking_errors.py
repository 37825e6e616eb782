"""A store that cannot be used is told in one message: where, what was found, what would help."""

import contextlib
import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock
from urllib.parse import urlsplit

import pytest
from tracking_kit import Fault, Proxy, client_of, ended, experiment, free_port, pending, written

from katib_flow.errors import NotFound, TrackingError
from katib_flow.history import Metric
from katib_flow.tracking import Change, Record, Store
from katib_flow.tracking.api import ApiError
from katib_flow.tracking.faults import explain
from katib_flow.tracking.official import TIMEOUTS, contact

CONTACT = "experiments/search"


def refused(uri: str, **arguments: object) -> str:
    """The one message of a store that cannot be opened."""
    with pytest.raises(TrackingError) as told:
        Store(uri, **{"contact_seconds": 0.2, **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_port_where_nobody_listens() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    message = refused(uri)
    assert message.startswith(f"MLflow at {uri} does not answer: ")
    assert "Connection refused" in message


def test_a_server_that_never_answers(black_hole: str) -> None:
    assert refused(black_hole).startswith(f"MLflow at {black_hole} does not answer: ")


@pytest.mark.timeout(30)
def test_a_database_that_never_answers(black_hole: str) -> None:
    pytest.importorskip("psycopg")
    address = urlsplit(black_hole).netloc
    message = refused(f"postgresql+psycopg://ada:secret@{address}/mlflow", contact_seconds=1)
    assert message.startswith(f"postgresql+psycopg://ada@{address}/mlflow: the MLflow store cannot be used: ")
    assert "timeout expired" in message


@pytest.mark.parametrize("driver", TIMEOUTS)
def test_every_driver_that_is_named_waits_as_long_as_it_is_told(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}

    def create_engine(url: object, **options: object) -> MagicMock:
        told.update(options)
        return MagicMock()

    monkeypatch.setattr("sqlalchemy.create_engine", create_engine)
    contact(f"mysql+{driver}://db/mlflow", 4.2)
    assert told["connect_args"] == dict.fromkeys(TIMEOUTS[driver], 5)
    contact(f"mysql+{driver}://db/mlflow?{TIMEOUTS[driver][0]}=60", 4.2)
    assert told["connect_args"] == dict.fromkeys(TIMEOUTS[driver][1:], 5)


def test_a_host_without_an_address() -> None:
    assert refused("http://no-such-host.invalid:5000").startswith("MLflow at http://no-such-host.invalid:5000 does not")


def test_a_server_that_does_not_know_its_name(proxy: Proxy) -> None:
    proxy.host = "mlflow.example.com"
    message = refused(proxy.uri)
    host = urlsplit(proxy.uri).netloc
    assert f"refuses the host name '{host}' (403 Invalid Host header)" in message
    assert f"--allowed-hosts {host}" in message


@pytest.mark.parametrize("body", [b"Unauthorized", b'{"detail": "Not authenticated"}'], ids=["text", "JSON"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_password(proxy: Proxy, status: int, body: bytes) -> None:
    proxy.faults.append(Fault(CONTACT, "answer", status, body, times=9))
    message = refused(proxy.uri, contact_seconds=5)
    assert f"refuses access ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in message
    assert proxy.asked(CONTACT) == 1


@pytest.mark.parametrize(("status", "told"), [(200, "not in a valid JSON format"), (404, "404")])
def test_a_server_that_is_not_mlflow(proxy: Proxy, status: int, told: str) -> None:
    proxy.faults.append(Fault(CONTACT, "answer", status, b"<html>Welcome to nginx!</html>", times=9))
    assert told in refused(proxy.uri, contact_seconds=5)
    assert proxy.asked(CONTACT) == 1


def test_an_address_of_no_kind_that_mlflow_knows() -> None:
    assert "carrier-pigeon" in refused("carrier-pigeon://loft")


def test_a_server_that_comes_up_in_time_is_waited_for(proxy: Proxy) -> None:
    proxy.faults.append(Fault(CONTACT, "answer", 503, times=5))
    assert Store(proxy.uri, contact_seconds=60).uri == proxy.uri


@pytest.mark.parametrize("password", ["hunter2secret", "p@hunter2secret"])
def test_a_password_is_never_shown(password: str, proxy: Proxy, black_hole: str) -> None:
    proxy.faults.append(Fault(CONTACT, "answer", 401, times=1))
    for address in (proxy.uri, f"http://127.0.0.1:{free_port()}", black_hole):
        message = refused(address.replace("://", f"://ada:{password}@"))
        assert "hunter2secret" not in message
        assert urlsplit(address).netloc in message


def test_a_password_is_not_shown_for_an_experiment_that_is_not_there(proxy: Proxy, group: str) -> None:
    store = Store(proxy.uri.replace("://", "://ada:hunter2secret@"), group)
    with pytest.raises(NotFound) as told:
        store.find("nothing")
    assert "hunter2secret" not in str(told.value)


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite:///x?mode=memory&uri=true"]
)
def test_a_store_in_memory(uri: str) -> None:
    assert refused(uri).endswith("found a store in memory, need a file: sqlite:///PATH")


def test_a_directory_in_the_place_of_a_database(tmp_path: Path) -> None:
    assert refused(f"sqlite:///{tmp_path}").startswith(f"{tmp_path}: the MLflow store cannot be created or written: ")


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "store.db"
    need = f"the MLflow store cannot be created or written: {path.parent}: File exists"
    assert refused(f"sqlite:///{path}") == f"{path}: {need}"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("a diary, not a database\n" * 99)
    need = "found a file that is not a SQLite database, need an MLflow store"
    assert refused(f"sqlite:///{path}") == f"{path}: {need}"
    assert path.read_text().startswith("a diary")


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (mine TEXT)")
        connection.commit()
    assert str(path) in refused(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root may write anywhere, but not where nobody may
        found = subprocess.run(["chattr", "+i", folder], capture_output=True, check=False)
        if found.returncode:
            pytest.skip(f"this user can write everywhere: {found.stderr.decode().strip()}")
    yield folder
    subprocess.run(["chattr", "-i", folder], capture_output=True, check=False)


def test_a_directory_that_cannot_be_written(read_only: Path) -> None:
    message = refused(f"sqlite:///{read_only}/store.db")
    assert message.startswith(f"{read_only}/store.db: the MLflow store cannot be created or written: ")


def test_a_store_that_breaks_while_it_is_used(local: Store, opened: Record, sqlite_uri: str) -> None:
    path = sqlite_uri.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tags")
    with pytest.raises(TrackingError) as told:
        written(local, opened, ended(0, 0.5))
    assert str(told.value) == f"{path}: the MLflow store cannot be used: no such table: tags"


def test_a_store_that_another_process_keeps_locked(local: Store, sqlite_uri: str) -> None:
    impatient = Store(sqlite_uri, patience_seconds=0)
    record = local.create(experiment())
    with contextlib.closing(sqlite3.connect(sqlite_uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        impatient._backend._database.connection.execute("PRAGMA busy_timeout = 1")  # milliseconds
        with pytest.raises(TrackingError, match="database is locked"):
            written(impatient, record, ended(0, 0.5))
        other.execute("ROLLBACK")
    assert len(written(impatient, record, ended(0, 0.5))) == 1


def test_a_deleted_mlflow_experiment(store: Store) -> None:
    record = store.create(experiment())
    client_of(store).delete_experiment(record.mlflow_experiment_id)
    again = Store(store.uri, store.experiment)
    for use in (again.records, lambda: again.create(experiment()), lambda: again.find("digits")):
        with pytest.raises(TrackingError) as told:
            use()
        assert f"the MLflow experiment {store.experiment!r} is deleted" in str(told.value)
        assert f"mlflow experiments restore -x {record.mlflow_experiment_id}" in str(told.value)


def test_an_experiment_that_mlflow_refuses_to_make_and_does_not_find(tmp_path: Path, monkeypatch) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db")

    def refusing(*_: object) -> str:
        raise ApiError("Experiment(name=katib-flow) already exists", error_code="RESOURCE_ALREADY_EXISTS")

    monkeypatch.setattr(store._api, "create_experiment", refusing)
    with pytest.raises(TrackingError, match="exists, but does not find it, which happens if a file was replaced"):
        store.create(experiment())


def test_an_mlflow_experiment_that_is_deleted_while_it_is_used(store: Store) -> None:
    record = store.create(experiment())
    client_of(store).delete_experiment(record.mlflow_experiment_id)
    with pytest.raises(TrackingError) as told:
        store.create(experiment())
    assert "\n" not in str(told.value)


def test_a_run_that_records_no_experiment(store: Store) -> None:
    record = store.create(experiment())
    run = client_of(store).create_run(record.mlflow_experiment_id, tags={"katib_flow.kind": "experiment"})
    with pytest.raises(TrackingError, match=f"run {run.info.run_id}: its experiment cannot be read by this version"):
        store.get(run.info.run_id)
    assert store.records() == [record]


def test_a_run_that_records_no_trial(store: Store) -> None:
    record = store.create(experiment())
    tags = {"mlflow.parentRunId": record.run_id, "katib_flow.trial_id": "t00000", "katib_flow.state": "melted"}
    run = client_of(store).create_run(record.mlflow_experiment_id, tags=tags)
    with pytest.raises(
        TrackingError, match=f"run {run.info.run_id}: the .* of its trial cannot be read by this version"
    ):
        store.history(record)


@pytest.mark.parametrize("run_id", ["0" * 32, "not a run id", "../../etc"])
def test_a_run_that_is_not_there(store: Store, run_id: str) -> None:
    with pytest.raises(NotFound, match="no such run in"):
        store.get(run_id)


def test_an_artifact_that_is_not_there(store: Store) -> None:
    record = store.create(experiment())
    with pytest.raises(NotFound, match=r"has no artifact 'report\.html'"):
        store.read_artifact(record.run_id, "report.html")


def test_an_artifact_that_cannot_be_kept(local: Store, opened: Record, tmp_path: Path) -> None:
    folder = Path(opened.artifact_uri.removeprefix("file://"))
    folder.parent.joinpath("spare").mkdir()
    (folder / "plots").write_text("a file, where a folder is needed")
    with pytest.raises(TrackingError) as told:
        local.log_text(opened, "x", "plots/best.svg")
    assert "plots" in str(told.value)
    assert "\n" not in str(told.value)


def test_the_command_that_restores_a_deleted_experiment_does_so_as_it_is_printed(tmp_path, monkeypatch):
    """It names the store: by itself MLflow's command acts on another one."""
    import re
    import subprocess

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = Store(f"sqlite:///{tmp_path}/it's here.db")
    client_of(store).delete_experiment(store._mlflow_experiment(create=True))
    again = Store(store.uri)
    with pytest.raises(TrackingError, match="is deleted: restore it") as caught:
        again._mlflow_experiment(create=True)
    command = re.search(r"restore it \((.*)\), or set", str(caught.value))
    assert command is not None
    subprocess.run(command[1], shell=True, check=True, capture_output=True)
    assert again._mlflow_experiment(create=True)


@pytest.mark.parametrize(
    ("module", "package"), [("psycopg", "'psycopg[binary]'"), ("MySQLdb", "mysqlclient"), ("oracledb", "oracledb")]
)
def test_a_driver_that_is_not_installed_is_named_with_its_package(module: str, package: str) -> None:
    message = explain("postgresql://h/x", ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert message.endswith(f"its driver, the module {module}, is not installed: pip install {package}")


@pytest.mark.parametrize("happened", ["deleted", "replaced by another file"])
def test_a_store_that_goes_while_it_is_used(local: Store, opened: Record, sqlite_uri: str, happened: str) -> None:
    path = Path(sqlite_uri.removeprefix("sqlite:///"))
    path.rename(path.with_name("elsewhere"))
    if happened != "deleted":
        path.touch()
    with pytest.raises(TrackingError) as told:
        written(local, opened, ended(0, 0.5))
    assert str(told.value) == f"{path}: the MLflow store was {happened} while it was in use"


def edited(store: Store, run_id: str, **values: object) -> None:
    """Another value in a tag, as whoever may write to the store can put there."""
    for name, value in values.items():
        client_of(store).set_tag(run_id, f"katib_flow.{name}", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("suggestion", "[" * 5000),
        ("suggestion", '{"index": 0, "assignment": {}, "key": 5.0}'),
        ("observations", '{"accuracy": [1]}'),
        ("observations", '{"accuracy": 1' + "0" * 400 + "}"),
        ("observations", "[1]"),
        ("started", "9" * 400),
        ("started", "-5"),
        ("retries", "x"),
    ],
)
def test_a_trial_that_was_edited_is_refused_in_words(local: Store, opened: Record, name: str, value: str) -> None:
    (trial,) = written(local, opened, ended(0, 0.5))
    edited(local, trial.run_id, **{name: value})
    with pytest.raises(
        TrackingError, match=f"run {trial.run_id}: the tags of its trial cannot be read by this version"
    ):
        local.history(opened)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"[" * 5000])
def test_a_topology_that_is_damaged_is_refused_in_words(local: Store, opened: Record, content: bytes) -> None:
    (trial,) = written(local, opened, pending(0, topology={"version": 1}))
    path = Path(urlsplit(local._run(trial.run_id).artifact_uri).path) / "topology.json"
    path.write_bytes(content)
    with pytest.raises(TrackingError, match=f"run {trial.run_id}: the .* of its trial cannot be read by this version"):
        Store(local.uri, local.experiment).history(opened)


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff", b'["stats", 0, 5]', b'["stats", "0", 5, [1]]', b"[7, 0, 5, [1]]", b'["stats", 0, 5, [[1]]]'],
)
def test_vectors_that_are_damaged_are_refused_in_words(local: Store, opened: Record, content: bytes) -> None:
    (trial,) = local.write(opened, [Change(ended(0, 0.5), (Metric("stats", (0.5, 1.0), 0, 5),))])
    (path,) = (Path(urlsplit(local._run(trial.run_id).artifact_uri).path) / "vectors").iterdir()
    path.write_bytes(content)
    with pytest.raises(TrackingError, match=f"run {trial.run_id}: the vectors/ of its trial"):
        Store(local.uri, local.experiment).history(opened, series=True)


@pytest.mark.parametrize(("name", "value"), [("max_trials", '"x"'), ("max_trials", "1.5"), ("timeout", "[1]"),
    ("spent", "null"), ("spent", "NaN"), ("resumed", "true"), ("pause", "0"), ("stop", "[" * 5000)])  # fmt: skip
def test_what_is_asked_for_is_of_its_type(local: Store, opened: Record, name: str, value: str) -> None:
    edited(local, opened.run_id, **{name: value})
    with pytest.raises(TrackingError, match=rf"tag katib_flow\.{name}: found '.*', need JSON: "):
        local.control(opened)


@pytest.mark.parametrize("value", ["null", "-1", "x", "1.5", "[" * 5000])
def test_a_segment_is_a_number(local: Store, opened: Record, value: str) -> None:
    edited(local, opened.run_id, segment=value)
    with pytest.raises(
        TrackingError, match=r"tag katib_flow\.segment: found '.*', need JSON: a whole number of at least 0"
    ):
        local.segment(opened)


def changed_row(local: Store, statement: str, *values: object) -> None:
    """A statement of SQL in the file of a store: SQLite keeps in a column whatever it is given."""
    with contextlib.closing(sqlite3.connect(local.uri.removeprefix("sqlite:///"))) as connection:
        assert connection.execute(statement, values).rowcount
        connection.commit()


@pytest.mark.parametrize("start", [None, "x", 1.5, -(2**63), 2**62])
def test_an_experiment_that_began_at_no_time_is_refused_in_words(local: Store, opened: Record, start: object) -> None:
    changed_row(local, "UPDATE runs SET start_time = ? WHERE run_uuid = ?", start, opened.run_id)
    with pytest.raises(TrackingError, match="its experiment cannot be read by this version"):
        local.get(opened.run_id)
    assert local.records() == []


@pytest.mark.parametrize("value", [None, 7, b"{}"])
def test_a_tag_that_is_no_text_is_refused_in_words(local: Store, opened: Record, value: object) -> None:
    (trial,) = written(local, opened, ended(0, 0.5))
    query = "UPDATE tags SET value = ? WHERE key = 'katib_flow.suggestion' AND run_uuid = ?"
    changed_row(local, query, value, trial.run_id)
    with pytest.raises(TrackingError, match="of its trial cannot be read by this version"):
        local.history(opened)


@pytest.mark.parametrize(("column", "value"), [("step", "x"), ("timestamp", 1.5), ("value", "x")])
def test_a_metric_that_is_no_number_is_refused_in_words(
    local: Store, opened: Record, column: str, value: object
) -> None:
    (trial,) = local.write(opened, [Change(ended(0, 0.5), (Metric("accuracy", 0.5, 0, 5),))])
    changed_row(local, f"UPDATE metrics SET {column} = ? WHERE run_uuid = ?", value, trial.run_id)
    with pytest.raises(TrackingError, match=r"the metrics of its trial"):
        local.history(opened, series=True)


def test_a_metric_of_another_program_may_have_any_name(local: Store, opened: Record) -> None:
    (trial,) = local.write(opened, [Change(ended(0, 0.5), (Metric("accuracy", 0.5, 0, 5),))])
    for number, name in enumerate(("a:FFFFFFFF:b", "a:110000:b", f"a:{'F' * 400}:b")):
        query = "INSERT INTO metrics VALUES (?, 0.5, 5, ?, 0, 0)"
        changed_row(
            local, query.replace("VALUES", "(key, value, timestamp, run_uuid, step, is_nan) VALUES"), name, trial.run_id
        )
        assert name in local.history(opened, series=True)[0].series, number
