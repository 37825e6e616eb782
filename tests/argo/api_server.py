"""The part of the Kubernetes API that we use, over HTTP, before a ``FakeCluster``: for tests of the real client."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from katib_flow.argo.cluster import AlreadyExists, ClusterError, Missing
from katib_flow.testing.kubernetes import FakeCluster

GROUPS = {
    "/api/v1": {"pods": "Pod", "events": "Event"},
    "/apis/batch/v1": {"jobs": "Job"},
    "/apis/argoproj.io/v1alpha1": {"workflows": "Workflow"},
}


class Server:
    """An API server with one namespace, which can go away and come back under the same address."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster, self._port = cluster, 0
        self._server: ThreadingHTTPServer | None = None
        self.start()
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self._cluster))
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Go away; nothing happens where it is away already."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None


@contextmanager
def serving(cluster: FakeCluster) -> Iterator[str]:
    """The address of an API server with one namespace."""
    server = Server(cluster)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


def _handler(cluster: FakeCluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def answer(self, code: int, body: Any, kind: str = "application/json") -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            try:
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
    prefix, _, rest = path.partition(f"/namespaces/{cluster.namespace}/")
    plural, *names = rest.split("/")
    kind = prefix.removeprefix("/apis/").removeprefix("/api/"), GROUPS[prefix][plural]
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
    labels, fields = (selected(query.get(f"{each}Selector", "")) for each in ("label", "field"))
    found = cluster.find(kind, labels, fields)
    return 200, {"apiVersion": kind[0], "kind": f"{kind[1]}List", "metadata": {}, "items": found}


def selected(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split(",") if pair)


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
        verbs = ["create", "delete", "get", "list", "patch"]
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": verbs} for name, kind in GROUPS[path].items()
        ]
        return {"kind": "APIResourceList", "groupVersion": path.split("/", 2)[2], "resources": resources}
    return None
