"""MLflow's own UI on a store."""

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
from katib_flow.tracking import Store
from katib_flow.tracking.faults import shown

GRACE_SECONDS = 10.0


class Told(Exception):
    """This process was told to end."""


def serve(port: int, store: Store) -> None:
    """Run MLflow's server on this machine until it is interrupted, or told to end; the server ends with it.

    Raises:
        KatibFlowError: the port is taken, or the server ended with an error; what it printed stands above.
    """
    if store.uri.startswith(("http://", "https://")):
        print(f"the store has a UI of its own: {shown(store.uri)}")
        return
    check_free(port)
    print(f"MLflow's UI: http://127.0.0.1:{port} (experiment {store.experiment}); Ctrl-C ends it", flush=True)
    command, environment = server_of(store.uri, port)
    with told_by_signals():
        server = subprocess.Popen(
            command, env=environment, start_new_session=True, preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM)
        )
        try:
            code = server.wait()
        except (KeyboardInterrupt, Told):
            return
        finally:
            _end(server)
    if code:
        raise KatibFlowError(f"MLflow's server ended with code {code}")


def server_of(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command that serves a store, and its environment, which has the address: it may hold a password."""
    where = ["--host", "127.0.0.1", "--port", str(port)]
    quietly = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    stores = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_BACKEND_STORE_URI": uri}
    # no job runners: nobody here has jobs for them, and they greet Ctrl-C with tracebacks
    environment = {**os.environ, **stores, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return [sys.executable, "-m", "mlflow", "server", *where, *quietly], environment


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server with all that it started."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def told_by_signals() -> Generator[None]:
    """Have SIGTERM and SIGHUP, a closed terminal, raise Told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, frame: FrameType | None) -> None:
        raise Told

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_free(port: int) -> None:
    """Make sure that a port can be listened on.

    Raises:
        KatibFlowError: it cannot.
    """
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            raise KatibFlowError(f"--port: found {port}, need a free port of this machine ({error.strerror})") from None
