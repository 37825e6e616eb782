"""The thin ways to MLflow give what MLflow's own client gives, call by call, on the same store."""

import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracking_kit import Server, copied, ended, experiment, mlflow_client, written

from katib_flow.tracking import Store, database
from katib_flow.tracking.api import Api, RunFilter
from katib_flow.tracking.database import KNOWN, Database, is_known
from katib_flow.tracking.encode import Point
from katib_flow.tracking.faults import error_code
from katib_flow.tracking.official import MlflowApi
from katib_flow.tracking.rest import RestApi
from katib_flow.tracking.server import PlainServer
from katib_flow.tracking.sqlite import SqliteApi

BEGIN = 1_700_000_000_000
ODD = [
    Point("loss", value, BEGIN + step, step) for step, value in enumerate((0.5, math.nan, math.inf, -math.inf, 5e-324))
]
TEXTS = {"plain": "1", "empty": "", "é/ü": "naïve 𝄞", "long": "x" * 4000, "quotes": 'it\'s "so"'}


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.xdist_group("mlflow-server"))])
def apis(request: pytest.FixtureRequest) -> tuple[Api, Api]:
    """A thin way to a store, and MLflow's own to the same."""
    if request.param == "server":
        server: Server = request.getfixturevalue("server")
        return RestApi(PlainServer(server.uri)), MlflowApi(server.uri)
    uri = request.getfixturevalue("shared_uri")
    path = Path(uri.removeprefix("sqlite:///"))
    return SqliteApi(Database(path), lambda: MlflowApi(uri)), MlflowApi(uri)


@pytest.fixture
def thin(apis: tuple[Api, Api]) -> Api:
    return apis[0]


@pytest.fixture
def official(apis: tuple[Api, Api]) -> Api:
    return apis[1]


@pytest.fixture
def experiment_id(official: Api, group: str) -> str:
    return official.create_experiment(group, None, {"a": "tag"})


def filled(api: Api, experiment_id: str, *, start: int = 0, name: str = "a run", **tags: str) -> str:
    run = api.create_run(experiment_id, BEGIN + start, {"mlflow.user": "ada", **tags}, name)
    api.log_batch(run.run_id, TEXTS, {"later": "yes", **TEXTS}, ODD)
    return run.run_id


def test_an_experiment_is_found_by_its_name(thin: Api, official: Api, experiment_id: str, group: str) -> None:
    assert thin.experiment(group) == official.experiment(group) == (experiment_id, True)
    assert thin.experiment(f"{group} of nobody") is None is official.experiment(f"{group} of nobody")


def test_a_deleted_experiment_is_told_apart(thin: Api, official: Any, experiment_id: str, group: str) -> None:
    official._client.delete_experiment(experiment_id)
    assert thin.experiment(group) == official.experiment(group) == (experiment_id, False)
    with pytest.raises(Exception, match=r"delete|active"):
        thin.create_run(experiment_id, BEGIN, {}, "late")


def test_an_experiment_that_is_made(thin: Api, official: Any, group: str) -> None:
    created = thin.create_experiment(group, None, {"mlflow.note.content": "mine"})
    assert official._client.get_experiment(created).tags["mlflow.note.content"] == "mine"
    with pytest.raises(Exception, match="already exists") as refused:
        thin.create_experiment(group, None, {})
    assert error_code(refused.value) == "RESOURCE_ALREADY_EXISTS"


def test_an_experiment_is_tagged_and_tagged_anew(thin: Api, official: Any, experiment_id: str) -> None:
    thin.tag_experiment(experiment_id, {"view": "1", "other": TEXTS["quotes"]})
    thin.tag_experiment(experiment_id, {"view": "2"})
    tags = official._client.get_experiment(experiment_id).tags
    assert {"a": "tag", "view": "2", "other": TEXTS["quotes"]}.items() <= tags.items()


@pytest.mark.parametrize("writes", ["thin", "official"])
def test_a_run_reads_alike_whoever_wrote_it(
    request: pytest.FixtureRequest, thin: Api, official: Api, experiment_id: str, writes: str
) -> None:
    run_id = filled(request.getfixturevalue(writes), experiment_id)
    mine, theirs = thin.run(run_id), official.run(run_id)
    assert repr(replace(mine, tags={}, params={}, metrics={})) == repr(replace(theirs, tags={}, params={}, metrics={}))
    assert (dict(mine.tags), dict(mine.params)) == (dict(theirs.tags), dict(theirs.params))
    assert repr(dict(mine.metrics)) == repr(dict(theirs.metrics))


def test_two_clients_leave_the_same_run(thin: Api, official: Api, experiment_id: str) -> None:
    mine, theirs = (official.run(filled(api, experiment_id)) for api in (thin, official))
    assert mine.artifact_uri.replace(mine.run_id, theirs.run_id) == theirs.artifact_uri
    same = {"run_id": "", "artifact_uri": ""}
    assert repr(replace(mine, **same)) == repr(replace(theirs, **same))


@pytest.mark.parametrize("writes", ["thin", "official"])
def test_a_series_reads_alike(
    request: pytest.FixtureRequest, thin: Api, official: Api, experiment_id: str, writes: str
) -> None:
    run_id = filled(request.getfixturevalue(writes), experiment_id)
    assert repr(sorted(thin.metric_history(run_id, "loss"), key=repr)) == repr(
        sorted(official.metric_history(run_id, "loss"), key=repr)
    )
    assert thin.metric_history(run_id, "nothing") == official.metric_history(run_id, "nothing") == []


@pytest.mark.parametrize(
    "where",
    [
        RunFilter(),
        RunFilter(tags={"kind": "trial"}),
        RunFilter(tags={"kind": "trial", "number": "t003"}),
        RunFilter(tags={"text": "it's"}),
        RunFilter(prefixes={"number": "t00"}),
        RunFilter(since_ms=BEGIN + 20),
        RunFilter(since_ms=BEGIN + 10, before_ms=BEGIN + 30),
        RunFilter(deleted=True),
        RunFilter(tags={"kind": "nobody"}),
    ],
    ids=lambda where: where.text() or ("deleted" if where.deleted else "all"),
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_search_finds_the_same_runs_in_the_same_order(
    thin: Api, official: Api, experiment_id: str, where: RunFilter, newest_first: bool
) -> None:
    for number in (4, 2, 0, 1, 3):
        tags = {"kind": "trial" if number % 2 else "else", "number": f"t{number:03}", "text": "it's"}
        run_id = official.create_run(experiment_id, BEGIN + 10 * number, tags, "run").run_id
        if number == 4:
            official.delete_run(run_id)
    runs = [api.search(experiment_id, where, newest_first=newest_first).runs for api in (thin, official)]
    assert [run.run_id for run in runs[0]] == [run.run_id for run in runs[1]]
    assert repr([dict(run.tags) for run in runs[0]]) == repr([dict(run.tags) for run in runs[1]])


def test_a_search_for_named_runs(thin: Api, official: Api, experiment_id: str) -> None:
    run_ids = [official.create_run(experiment_id, BEGIN + number, {}, "run").run_id for number in range(4)]
    where = RunFilter(run_ids=(run_ids[2], run_ids[0], "0" * 32))
    for api in (thin, official):
        assert [run.run_id for run in api.search(experiment_id, where).runs] == [run_ids[0], run_ids[2]]


def test_pages_hold_every_run(thin: Api, official: Api, experiment_id: str) -> None:
    run_ids = [official.create_run(experiment_id, BEGIN + number, {}, "run").run_id for number in range(5)]
    told, token = [], None
    while not told or token:
        page = thin.search(experiment_id, RunFilter(), limit=2, token=token)
        told += [run.run_id for run in page.runs]
        token = page.token
    assert told == run_ids


@pytest.mark.parametrize(("status", "ended"), [("RUNNING", None), ("FINISHED", BEGIN + 5), ("KILLED", BEGIN + 7)])
def test_a_status_is_set_alike(thin: Api, official: Api, experiment_id: str, status: str, ended: int | None) -> None:
    mine, theirs = (api.create_run(experiment_id, BEGIN, {}, "run").run_id for api in (thin, official))
    thin.set_status(mine, status, ended)
    official.set_status(theirs, status, ended)
    assert [(it.status, it.end_ms) for it in map(official.run, (mine, theirs))] == [(status, ended)] * 2


def test_a_deleted_run_is_deleted_for_both(thin: Api, official: Any, experiment_id: str) -> None:
    run_id = thin.create_run(experiment_id, BEGIN, {}, "run").run_id
    thin.delete_run(run_id)
    assert official._client.get_run(run_id).info.lifecycle_stage == "deleted"
    for api in (thin, official):
        with pytest.raises(Exception, match=r"deleted|active"):
            api.log_batch(run_id, {}, {"late": "yes"}, [])
        with pytest.raises(Exception, match=r"deleted|active"):
            api.set_status(run_id, "FINISHED", BEGIN)


def use_run(api: Api, run_id: str) -> list[Callable[[], object]]:
    return [
        lambda: api.run(run_id),
        lambda: api.log_batch(run_id, {}, {"a": "tag"}, []),
        lambda: api.set_status(run_id, "FINISHED", None),
        lambda: api.delete_run(run_id),
    ]


def test_a_run_that_is_not_there_is_the_same_error(thin: Api, official: Api) -> None:
    for mine, theirs in zip(use_run(thin, "0" * 32), use_run(official, "0" * 32), strict=True):
        codes = []
        for call in (mine, theirs):
            with pytest.raises(Exception, match="not found") as refused:
                call()
            codes.append(error_code(refused.value))
        assert codes == ["RESOURCE_DOES_NOT_EXIST"] * 2


# the schema of the file


def test_the_schema_that_this_mlflow_makes_is_known(template: Path) -> None:
    assert is_known(template)


def test_a_schema_that_is_not_known_is_left_to_mlflow(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(template)) as connection:
        ((head,),) = connection.execute("SELECT version_num FROM alembic_version")
    uri = copied(template, tmp_path)
    assert isinstance(Store(uri)._api, SqliteApi)
    monkeypatch.setattr(database, "KNOWN", KNOWN - {head})
    assert isinstance(Store(uri)._api, MlflowApi)


def old_store(path: Path, revision: str) -> None:
    """A store of an older MLflow, with an experiment named ``old``."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
            " VALUES (1, 'old', ?, 'active')",
            (f"{path.parent}/artifacts",),
        )
    engine.dispose()


def test_a_store_of_the_oldest_known_schema_is_read_and_written(tmp_path: Path) -> None:
    from mlflow.store.db.utils import _upgrade_db
    from sqlalchemy import create_engine

    path = tmp_path / "old.db"
    old_store(path, "bf29a5ff90ea")  # of MLflow 3.5
    store = Store(f"sqlite:///{path}", "old")
    assert isinstance(store._api, SqliteApi)
    record = store.create(experiment())
    (trial,) = written(store, record, ended(0, 0.5))
    _upgrade_db(create_engine(f"sqlite:///{path}"))
    run = mlflow_client(f"sqlite:///{path}").get_run(trial.run_id)  # the newest MLflow reads what was written
    assert run.data.tags["katib_flow.trial_id"] == "t00000"
    assert Store(f"sqlite:///{path}", "old").history(record)[0] == trial


USES_A_STORE = """
import sys
from katib_flow.tracking import Status, Store
from tracking_kit import ended, experiment, written

store = Store(sys.argv[1], sys.argv[2])
record = store.create(experiment(), key="k")
written(store, record, ended(0, 0.5))
store.log_text(record, "a text", "note.txt")
store.summarise(record, store.history(record, series=True), Status.SUCCEEDED, "done")
assert store.read_artifact(record.run_id, "note.txt").read_text() == "a text"
assert [it.status for it in store.records()] == [Status.SUCCEEDED]
print(sorted({"mlflow", "sqlalchemy", "pandas"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("server", marks=pytest.mark.xdist_group("mlflow-server"))])
def test_mlflow_is_not_imported_where_it_is_not_needed(request: pytest.FixtureRequest, group: str, kind: str) -> None:
    uri = request.getfixturevalue("server").uri if kind == "server" else request.getfixturevalue("shared_uri")
    MlflowApi(uri).create_experiment(group, None, {})
    command = [sys.executable, "-c", USES_A_STORE, uri, group]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
