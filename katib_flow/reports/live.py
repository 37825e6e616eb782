"""A live report over HTTP on this machine: the page fetches changes, and keeps its scroll position.

Only requests that name this address as their host are answered, which prevents DNS rebinding by pages of other sites.
The server is read-only, and reads only the path, the host and the version of a request.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from katib_flow.errors import KatibFlowError
from katib_flow.reports.blocks import Report
from katib_flow.reports.page import content, html

DUTY = 0.35
"""The largest share of time to spend on making reports."""
LEAST_SECONDS = 1.0
HOST = "127.0.0.1"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Snapshot:
    """The current state of an experiment.

    Attributes:
        version: changes whenever the report would.
        final: True if the experiment has ended.
        report: makes the report, which is slow.
    """

    version: str
    final: bool
    report: Callable[[], Report]


@dataclass(frozen=True)
class Edition:
    """A report as it is sent to browsers."""

    version: str
    final: bool
    report: Report
    content: bytes


class Newest:
    """The newest edition of a report, made on request, but not too often.

    Args:
        look: reads the experiment.
        clock: monotonic time in seconds.

    Attributes:
        trouble: why the edition could not be renewed; "" if it could.
    """

    def __init__(self, look: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._lock = Lock()
        self._edition: Edition | None = None
        self._not_before = -1.0
        self.trouble = ""

    def get(self) -> Edition:
        """The newest edition or, if the store cannot be read, the last one; then ``trouble`` says why.

        Raises:
            KatibFlowError: the store cannot be read, and there is no earlier edition.
        """
        with self._lock:
            if self._edition is not None and self._clock() < self._not_before:
                return self._edition
            begun, first = self._clock(), self._edition is None
            try:
                snapshot = self._look()
                if self._edition is None or snapshot.version != self._edition.version:
                    report = snapshot.report()
                    body = content(report).encode()
                    self._edition = Edition(snapshot.version, snapshot.final, report, body)
                self.trouble = ""
            except KatibFlowError as error:
                if self._edition is None:
                    raise
                self._tell(str(error))
            ended = self._clock()
            pause = 0.0 if first else (ended - begun) * (1 - DUTY) / DUTY  # the first edition includes imports
            self._not_before = ended + max(LEAST_SECONDS, pause)
            return self._edition

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            logging.getLogger(__name__).warning("the report was not updated: %s", trouble)
        self.trouble = trouble


class Server(ThreadingHTTPServer):
    """Serves the report at ``/``, and its changing content at ``/content``.

    Args:
        port: the port on this machine; 0 for any free port.

    Raises:
        OSError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, port: int, newest: Newest) -> None:
        super().__init__((HOST, port), _Handler)
        self.newest = newest
        self.port = int(self.server_address[1])
        self.names = frozenset({f"{name}:{self.port}" for name in (HOST, "localhost")})
        self.address = f"http://{HOST}:{self.port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of connections that browsers have closed."""


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = 60.0
    server_version, sys_version = "katib-flow", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if self.headers.get("Host", "").lower() not in self.server.names:
            text = b"This server does not answer to that host name.\n"
            self._send(HTTPStatus.MISDIRECTED_REQUEST, text, "text/plain", body)
            return
        if path not in ("/", "/content"):
            self._send(HTTPStatus.NOT_FOUND, b"Not found; the report is at /.\n", "text/plain", body)
            return
        try:
            edition = self.server.newest.get()
        except KatibFlowError as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode(), "text/plain", body)
            return
        status = {"X-Status": "final" if edition.final else "running"}
        status |= {"X-Trouble": "yes"} if self.server.newest.trouble else {}
        if path == "/":
            self._send(HTTPStatus.OK, html(edition.report, live=True).encode(), "text/html", body, status)
            return
        tag = json.dumps(edition.version)
        if self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, b"", "text/html", False, status | {"ETag": tag})
            return
        self._send(HTTPStatus.OK, edition.content, "text/html", body, status | {"ETag": tag})

    def _send(
        self, status: HTTPStatus, content: bytes, kind: str, body: bool, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), **_HEADERS}
        for name, value in (headers | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: an open page sends a request every two seconds."""


def version_of(*facts: object) -> str:
    """A version that changes with any of the facts."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:32]
