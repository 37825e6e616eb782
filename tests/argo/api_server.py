"""The part of the Kubernetes API that we use, over HTTP, before a ``FakeCluster``: for tests of the real client."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from katib_flow.argo.cluster import AlreadyExists, ClusterError, KubernetesCluster, Missing
from katib_flow.testing.kubernetes import FakeCluster

GROUPS = {
    "/api/v1": {"pods": "Pod", "events": "Event", "configmaps": "ConfigMap"},
    "/apis/batch/v1": {"jobs": "Job"},
    "/apis/argoproj.io/v1alpha1": {"workflows": "Workflow"},
}


@contextmanager
def reached(cluster: FakeCluster, folder: Path, port: int = 0) -> Iterator[KubernetesCluster]:
    """The real client, of a namespace that is served at a port."""
    with serving(cluster, port) as address:
        config = folder / "kubeconfig"
        context = {"name": "x", "context": {"cluster": "x", "user": "x", "namespace": cluster.namespace}}
        config.write_text(json.dumps({
            "current-context": "x", "contexts": [context],
            "clusters": [{"name": "x", "cluster": {"server": address}}], "users": [{"name": "x", "user": {}}],
        }))  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(config))
            client = KubernetesCluster(in_pod=False)
        yield client


class Server:
    """An API server with one namespace, which can go away and come back under the same address."""

    def __init__(self, cluster: FakeCluster, port: int = 0) -> None:
        self._cluster, self._port = cluster, port
        self._server: ThreadingHTTPServer | None = None
        self._connections: list[socket.socket] = []
        self.start()
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        handler = _handler(self._cluster, self._connections)
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go away, and cut off who is connected; nothing happens where it is away already."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()
        self._thread.join()
        self._server = None


@contextmanager
def serving(cluster: FakeCluster, port: int = 0) -> Iterator[str]:
    """The address of an API server with one namespace."""
    server = Server(cluster, port)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


def _handler(cluster: FakeCluster, connections: list[socket.socket]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.append(self.connection)

        def log_message(self, *_: Any) -> None: ...

        def answer(self, code: int, body: Any, kind: str = "application/json") -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def tell(self, kind: tuple[str, str], query: dict[str, str]) -> None:
            labels, name = selected(query, "label"), selected(query, "field").get("metadata.name", "")
            seconds = int(query["timeoutSeconds"])
            changes = cluster.changes(kind, labels, name, query["resourceVersion"], seconds)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            with contextlib.suppress(OSError):  # who was told has gone
                try:
                    for version in changes:
                        self.chunk({"type": "MODIFIED", "object": {"metadata": {"resourceVersion": version}}})
                except ClusterError as error:
                    self.chunk({"type": "ERROR", "object": status(error.status, str(error))})
                self.wfile.write(b"0\r\n\r\n")

        def chunk(self, event: dict[str, Any]) -> None:
            data = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            try:
                if query.get("watch"):
                    self.tell(kind_of_path(cluster, url.path), query)
                else:
                    self.answer(*respond(cluster, self.command, url.path, query, body))
            except Missing as error:
                self.answer(404, status(404, str(error)))
            except AlreadyExists as error:
                self.answer(409, status(409, str(error)))
            except ClusterError as error:
                self.answer(error.status, status(error.status, str(error)))

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    return Handler


def status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def respond(cluster: FakeCluster, method: str, path: str, query: dict[str, str], body: Any) -> tuple[Any, ...]:
    if found := discovery(path):
        return 200, found
    if "/namespaces/" not in path:
        raise Missing(path)
    kind, names = kind_of_path(cluster, path), path.partition("/namespaces/")[2].split("/")[2:]
    if names[1:] == ["log"]:
        since = int(query["sinceSeconds"]) if "sinceSeconds" in query else None
        return 200, cluster.log(names[0], query.get("container"), since), "text/plain"
    if method == "POST":
        return 201, cluster.create(body)
    if method == "PATCH":
        return 200, cluster.patch(kind, names[0], body)
    if method == "DELETE":
        cluster.object(kind, names[0])
        cluster.delete(kind, names[0])
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
    if names:
        return 200, cluster.get(kind, names[0])
    items = cluster.find(kind, selected(query, "label"), selected(query, "field"))
    metadata = {"resourceVersion": cluster.version}
    return 200, {"apiVersion": kind[0], "kind": f"{kind[1]}List", "metadata": metadata, "items": items}


def kind_of_path(cluster: FakeCluster, path: str) -> tuple[str, str]:
    prefix, _, rest = path.partition(f"/namespaces/{cluster.namespace}/")
    return prefix.removeprefix("/apis/").removeprefix("/api/"), GROUPS[prefix][rest.split("/")[0]]


def selected(query: dict[str, str], what: str) -> dict[str, str]:
    """The labels or the fields that objects are selected by."""
    return dict(pair.split("=") for pair in query.get(f"{what}Selector", "").split(",") if pair)


def discovery(path: str) -> dict[str, Any] | None:
    groups = [path.removeprefix("/apis/").split("/") for path in GROUPS if path.startswith("/apis/")]
    if path == "/version":
        return {"major": "1", "minor": "34"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = [{"groupVersion": "/".join(group), "version": group[1]} for group in groups]
        made = [
            {"name": group[0], "versions": [version], "preferredVersion": version}
            for group, version in zip(groups, versions, strict=True)
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": made}
    if path in GROUPS:
        verbs = ["create", "delete", "get", "list", "patch", "watch"]
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": verbs} for name, kind in GROUPS[path].items()
        ]
        return {"kind": "APIResourceList", "groupVersion": path.split("/", 2)[2], "resources": resources}
    return None
