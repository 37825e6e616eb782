"""Requests carry what MLflow's own client makes of the same environment; artifacts are those that MLflow sees."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tracking_kit import Server

from katib_flow.tracking.api import ApiError
from katib_flow.tracking.rest import RestApi
from katib_flow.tracking.served import Served
from katib_flow.tracking.server import MlflowServer, PlainServer, connection


class Listener:
    """A server that keeps the headers of its requests, and answers all of them alike."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.answer: Any = {}
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                listener.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = json.dumps(listener.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.server.shutdown()
    listening.server.server_close()


ENVIRONMENTS = {
    "nothing": {},
    "a name and a password": {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pässword"},
    "a name alone": {"MLFLOW_TRACKING_USERNAME": "ada"},
    "a token": {"MLFLOW_TRACKING_TOKEN": "t0k3n"},
    "both": {
        "MLFLOW_TRACKING_USERNAME": "ada",
        "MLFLOW_TRACKING_PASSWORD": "secret",
        "MLFLOW_TRACKING_TOKEN": "t0k3n",
    },
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@pytest.mark.parametrize("netrc", [False, True], ids=["no netrc", "netrc"])
def test_a_request_logs_in_as_mlflow_does(
    listener: Listener, environment: dict[str, str], netrc: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if netrc and not environment:
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login bob password b0b\n")
    for way in (PlainServer(listener.uri), MlflowServer(listener.uri)):
        RestApi(way).contact(5)
    mine, theirs = (headers.get("authorization") for headers in listener.headers)
    assert mine == theirs
    assert (mine is None) == ((not environment and not netrc) or list(environment) == ["MLFLOW_TRACKING_USERNAME"])


def test_a_request_logs_in_with_mlflow_s_own_file(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".mlflow").mkdir()
    text = "[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = secret\n"
    (tmp_path / ".mlflow" / "credentials").write_text(text)
    for way in (PlainServer(listener.uri), MlflowServer(listener.uri)):
        RestApi(way).contact(5)
    mine, theirs = (headers["authorization"] for headers in listener.headers)
    assert mine == theirs == "Basic YWRhOnNlY3JldA=="


def test_a_request_names_the_workspace(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_WORKSPACE", "vision")
    for way in (PlainServer(listener.uri), MlflowServer(listener.uri)):
        RestApi(way).contact(5)
    assert [headers["x-mlflow-workspace"] for headers in listener.headers] == ["vision"] * 2


def test_a_way_to_log_in_that_only_mlflow_knows_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(connection("http://127.0.0.1:9"), PlainServer)
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "false")
    assert isinstance(connection("http://127.0.0.1:9"), PlainServer)
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "true")
    assert isinstance(connection("http://127.0.0.1:9"), MlflowServer)


def test_certificates_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", "mine.pem")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "theirs.pem")
    server = PlainServer("https://127.0.0.1:9")
    assert (server._session.cert, server._verify) == ("mine.pem", "theirs.pem")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert PlainServer("https://127.0.0.1:9")._verify is False


# artifacts that the server keeps


@pytest.fixture
def repositories(server: Server, group: str) -> tuple[Served, Any]:
    """The artifacts of one run, by our way and by MLflow's own."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = f"mlflow-artifacts:/9/{group}/artifacts"
    root = Served.root(uri)
    assert root == f"9/{group}/artifacts"
    return Served(PlainServer(server.uri), root), get_artifact_repository(uri, tracking_uri=server.uri)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for name, content in {
        "a.txt": b"a",
        "sub/b c.bin": b"\0\xff" * 99,
        "sub/deep/ü+.json": b"{}",
        "empty": b"",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("writer", [0, 1], ids=["ours", "MLflow's"])
def test_artifacts_read_alike_whoever_kept_them(
    repositories: tuple[Served, Any], files: Path, tmp_path: Path, writer: int
) -> None:
    repositories[writer].log_artifacts(str(files), "kept")
    repositories[writer].log_artifact(str(files / "a.txt"), None)
    for folder in ("kept", "kept/sub", "kept/nothing"):
        mine, theirs = (
            [(it.path, it.is_dir) for it in sorted(repository.list_artifacts(folder), key=lambda it: it.path)]
            for repository in repositories
        )
        assert mine == theirs
    for number, repository in enumerate(repositories):
        target = tmp_path / str(number)
        target.mkdir()
        assert tree(Path(repository.download_artifacts("kept", str(target)))) == tree(files)
        assert Path(repository.download_artifacts("a.txt", str(target))).read_bytes() == b"a"


def test_an_artifact_is_deleted(repositories: tuple[Served, Any], files: Path) -> None:
    mine, theirs = repositories
    mine.log_artifact(str(files / "a.txt"), "kept")
    mine.delete_artifacts("kept/a.txt")
    assert theirs.list_artifacts("kept") == []
    with pytest.raises(ApiError) as refused:
        mine.download_artifacts("kept/a.txt", str(files))
    assert refused.value.status == 404


@pytest.mark.parametrize("uri", ["mlflow-artifacts://elsewhere:5000/9/x", "s3://bucket/x", "file:///tmp/x", "/tmp/x"])
def test_artifacts_of_another_place_are_none_of_the_server_s(uri: str) -> None:
    assert Served.root(uri) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\b"])
def test_a_server_cannot_name_a_file_outside(listener: Listener, name: str, tmp_path: Path) -> None:
    listener.answer = {"files": [{"path": name, "is_dir": False}, {"path": "fine", "is_dir": False}]}
    with pytest.raises(ApiError, match="need a name inside the requested folder"):
        Served(PlainServer(listener.uri), "9/x").download_artifacts("kept", str(tmp_path))
    assert tree(tmp_path) == {}
