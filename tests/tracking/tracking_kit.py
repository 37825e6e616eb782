"""What the tests of tracking share: experiments, changes, a real MLflow server, and a proxy that spoils its answers."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from katib_flow.history import Metric, State, Suggestion, Trial, Value
from katib_flow.spec import Experiment
from katib_flow.tracking import Change, Store

BEGIN = 1_700_000_000.25  # seconds since the epoch


def experiment(**changes: Any) -> Experiment:
    data = {
        "name": "digits",
        "objective": {"metric": "accuracy", "direction": "maximize", "goal": 0.99},
        "additional_metrics": ["loss"],
        "parameters": {"lr": {"type": "float", "min": 1e-4, "max": 1, "scale": "log"}},
        "algorithm": {"name": "random", "seed": 7},
        "limits": {"max_trials": 20, "parallel_trials": 4},
        "trial": {"function": "examples.digits:train"},
    }
    return Experiment.parse(data | changes)


def pending(index: int, assignment: dict[str, Value] | None = None, **fields: Any) -> Trial:
    return Trial(Suggestion(index, {"lr": 0.5} if assignment is None else assignment, **fields))


def ended(index: int, accuracy: float, state: State = State.SUCCEEDED, *, after: float | None = None) -> Trial:
    """A trial that has ended ``after`` so many seconds; its index counts them where they are not given."""
    end = BEGIN + (index if after is None else after) + 1
    return Trial(Suggestion(index, {"lr": 0.5}), state, {"accuracy": accuracy}, started=end - 1, ended=end)


def reported(values: list[float], name: str = "accuracy") -> tuple[Metric, ...]:
    return tuple(Metric(name, value, step, int(BEGIN * 1000) + step) for step, value in enumerate(values))


def written(store: Store, record: Any, *trials: Trial) -> list[Trial]:
    return store.write(record, [Change(trial) for trial in trials])


@cache
def mlflow_client(uri: str) -> Any:
    """MLflow's own client of a store."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def client_of(store: Store) -> Any:
    """MLflow's own client of the store behind ours."""
    return mlflow_client(store.uri)


def free_port() -> int:
    with closing(socket.socket()) as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@dataclass(frozen=True)
class Server:
    """A running ``mlflow server`` and the SQLite file it keeps."""

    uri: str
    database: Path


@contextmanager
def mlflow_server(
    database: Path,
    artifacts: Path | str,
    *options: str,
    backend: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """A real server on a free port of the loopback, until the block ends.

    Args:
        database: a SQLite file; with a ``backend``, the address of another database, only the log is kept beside it.
        options: further arguments of ``mlflow server``.
        variables: further variables of its environment.

    Raises:
        RuntimeError: it did not come up.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend or f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(artifacts), "--port", str(port), "--workers", "1", *options]
    environment = {
        **os.environ,
        **variables,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = database.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=database.parent, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for_health(process, port, log)
        yield Server(f"http://127.0.0.1:{port}", database)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            threading.Event().wait(0.05)  # between two looks; what ends the loop is the server's answer
    raise RuntimeError(f"mlflow server did not come up:\n{log.read_text()[-3000:]}")


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose path ends in ``path``.

    Attributes:
        kind: ``answer`` with a status instead of the server; ``drop`` the connection before the server is asked;
            ``lose`` the answer of the server, which has done its work.
    """

    path: str
    kind: str = "answer"
    status: int = 503
    body: bytes = b"upstream is away"
    times: int = 1


@dataclass
class Proxy:
    """An HTTP proxy before a server.

    Attributes:
        host: the Host header that the server sees, in the place of the client's.
        requests: (method, path without query) of every request, in order.
    """

    port: int
    target: str
    host: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> int:
        """How many requests went to paths with this end."""
        return sum(each.endswith(path) for _, each in self.requests)

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times and path.endswith(fault.path):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def spoiling_proxy(target: str) -> Iterator[Proxy]:
    proxy = Proxy(0, target.removeprefix("http://"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.fault(self.command, self.path.partition("?")[0])
            if fault is None or fault.kind == "lose":
                answer = self.forwarded(body)
            if fault is not None and fault.kind == "answer":
                answer = fault.status, {"Content-Type": "text/plain"}, fault.body
            if fault is not None and fault.kind in ("lose", "drop"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.answered(*answer)

        def forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            headers |= {"Host": proxy.host} if proxy.host else {}
            with closing(http.client.HTTPConnection(proxy.target, timeout=60)) as server:
                server.request(self.command, self.path, body, headers)
                response = server.getresponse()
                return response.status, dict(response.getheaders()), response.read()

        def answered(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="spoiling proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def copied(template: Path, folder: Path) -> str:
    """The URI of a fresh SQLite store in a folder."""
    shutil.copyfile(template, folder / "store.db")
    return f"sqlite:///{folder}/store.db"
