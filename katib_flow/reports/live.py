"""A report over HTTP on this machine that is always of now: the page asks for what is new, and keeps its place.

Only requests for this very address are answered: a page of another site, whose name was made to lead here, sends
another name along (DNS rebinding). Everything is read-only, and nothing of a request but its path and version is read.
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
"""Share of the time that is spent on making reports, at most."""
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
    """An experiment as it stands.

    Attributes:
        version: different whenever anything else is.
        final: whether the experiment has ended.
        report: makes the report; slow.
    """

    version: str
    final: bool
    report: Callable[[], Report]


@dataclass(frozen=True)
class Edition:
    """A report as it is sent."""

    version: str
    final: bool
    report: Report
    content: bytes


class Newest:
    """The newest edition of a report, made when it is asked for, and not too often.

    Args:
        look: reads the experiment.
        clock: seconds that never go back.
    """

    def __init__(self, look: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._lock = Lock()
        self._edition: Edition | None = None
        self._not_before = -1.0
        self.trouble = ""

    def get(self) -> Edition:
        """The newest edition; the one before where the store does not answer, with ``trouble`` saying why.

        Raises:
            KatibFlowError: there is no edition before.
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
            pause = 0.0 if first else (ended - begun) * (1 - DUTY) / DUTY  # the first takes longer: it imports
            self._not_before = ended + max(LEAST_SECONDS, pause)
            return self._edition

    def _tell(self, trouble: str) -> None:
        if trouble != self.trouble:
            logging.getLogger(__name__).warning("the report is as it was: %s", trouble)
        self.trouble = trouble


class Server(ThreadingHTTPServer):
    """The report at ``/``, and what changes of it at ``/content``.

    Args:
        port: of this machine; 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, port: int, newest: Newest) -> None:
        super().__init__((HOST, port), _Handler)
        self.newest = newest
        self.port = int(self.server_address[1])
        self.names = frozenset({f"{name}:{self.port}" for name in (HOST, "localhost")})
        self.address = f"http://{HOST}:{self.port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone away is no news."""


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
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"This server is not known by that name.\n", "text/plain", body)
            return
        if path not in ("/", "/content"):
            self._send(HTTPStatus.NOT_FOUND, b"There is only the report, at /.\n", "text/plain", body)
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
        """Requests are not logged: a page that is open asks every two seconds."""


def version_of(*facts: object) -> str:
    """A version that differs where the facts do."""
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:32]
