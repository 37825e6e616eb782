"""Serve MLflow's own UI for a store."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from katib_flow.errors import KatibFlowError
from katib_flow.processes import die_with
from katib_flow.tracking import Record, Store
from katib_flow.tracking.faults import shown
from katib_flow.tracking.views import experiments_path, trials_path
from katib_flow.trial.table import printable

GRACE_SECONDS = 10.0
PORT = 5000


class Terminated(Exception):
    """This process was asked to end by SIGTERM or SIGHUP."""


def serve(port: int, store: Store) -> None:
    """Run MLflow's server on this machine until this process is interrupted or terminated.

    Raises:
        KatibFlowError: the port is taken, or the server failed, after printing its own messages.
    """
    newest = store.newest()
    if _is_served(store):
        print(f"the store has its own UI: {shown(store.uri)}")
        _show_links(store, newest, port)
        return
    check_free(port)
    print(f"MLflow's UI: http://127.0.0.1:{port} (experiment {store.experiment}); Ctrl-C ends it")
    _show_links(store, newest, port)
    sys.stdout.flush()
    command, environment = server_of(store.uri, port)
    with terminated_by_signals():
        server = subprocess.Popen(
            command, env=environment, start_new_session=True, preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM)
        )
        try:
            code = server.wait()
        except (KeyboardInterrupt, Terminated):
            return
        finally:
            _end(server)
    if code:
        raise KatibFlowError(f"MLflow's server ended with code {code}")


def address_of(store: Store, path: str, port: int = PORT) -> str:
    """The address of a page in MLflow's UI: the store's own, or the one that ``serve`` starts.

    Args:
        path: the path of the page, beginning with ``#/``.
    """
    where = shown(store.uri).rstrip("/") if _is_served(store) else f"http://127.0.0.1:{port}"
    return f"{where}/{path}"


def _is_served(store: Store) -> bool:
    return store.uri.startswith(("http://", "https://"))


def _show_links(store: Store, newest: Record | None, port: int) -> None:
    if newest is not None:
        print(f"all experiments: {address_of(store, experiments_path(newest.mlflow_experiment_id), port)}")
        print(f"the trials of {printable(newest.name)}: {address_of(store, trials_path(newest), port)}")


def server_of(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command that serves a store, and its environment, which has the URI because that may contain a password."""
    where = ["--host", "127.0.0.1", "--port", str(port)]
    quietly = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    stores = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_BACKEND_STORE_URI": uri}
    # no job runners: there are no jobs for them, and they answer Ctrl-C with tracebacks
    environment = {**os.environ, **stores, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return [sys.executable, "-m", "mlflow", "server", *where, *quietly], environment


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and all processes that it started."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def terminated_by_signals() -> Generator[None]:
    """Raise Terminated on SIGTERM and on SIGHUP (a closed terminal); has no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {number: signal.signal(number, terminate) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_free(port: int) -> None:
    """Check that a port of this machine is free.

    Raises:
        KatibFlowError: it is in use, or this process may not listen on it.
    """
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            raise KatibFlowError(f"--port: found {port}, need a free port of this machine ({error.strerror})") from None
