import itertools
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tracking_kit import Proxy, Server, copied, experiment, mlflow_server, spoiling_proxy

from katib_flow.tracking import Record, Store, faults

_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)  # pytest-xdist's own hook reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("mlflow-server"))  # one server for all of them


@pytest.fixture(autouse=True)
def a_world_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(faults, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that MLflow has just made: its migrations take a second."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    Store(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    copied(template, folder)
    with mlflow_server(folder / "store.db", folder / "artifacts") as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with spoiling_proxy(server.uri) as running:
        yield running


@pytest.fixture
def sqlite_uri(template: Path, tmp_path: Path) -> str:
    return copied(template, tmp_path)


@pytest.fixture
def group() -> str:
    """The name of an MLflow experiment that no other test uses."""
    return f"group-{next(_numbers)}"


@pytest.fixture(scope="session")
def shared_uri(template: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store for tests that need none of their own."""
    return copied(template, tmp_path_factory.mktemp("shared"))


@pytest.fixture(params=["thin", "client", pytest.param("server", marks=pytest.mark.xdist_group("mlflow-server"))])
def store(request: pytest.FixtureRequest, group: str) -> Store:
    """A store by each way that there is to one."""
    if request.param == "server":
        return Store(request.getfixturevalue("server").uri, group)
    return Store(request.getfixturevalue("shared_uri"), group, thin=request.param == "thin")


@pytest.fixture
def record(store: Store) -> Record:
    return store.create(experiment())


@pytest.fixture
def local(sqlite_uri: str) -> Store:
    """The store of a user who sets nothing up."""
    return Store(sqlite_uri)


@pytest.fixture
def opened(local: Store) -> Any:
    return local.create(experiment())
