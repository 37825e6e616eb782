"""MLflow's own UI on a store."""

import os
import socket
import subprocess
import sys

from katib_flow.errors import KatibFlowError
from katib_flow.tracking import Store
from katib_flow.tracking.faults import shown


def serve(port: int, store: Store) -> None:
    """Run MLflow's server on this machine until it is interrupted.

    Raises:
        KatibFlowError: the port is taken, or the server ended with an error; what it printed stands above.
    """
    if store.uri.startswith(("http://", "https://")):
        print(f"the store has a UI of its own: {shown(store.uri)}")
        return
    _check_free(port)
    print(f"MLflow's UI: http://127.0.0.1:{port} (experiment {store.experiment}); Ctrl-C ends it", flush=True)
    where = ["--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(port)]
    quietly = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    command = [sys.executable, "-m", "mlflow", "server", *where, *quietly]
    # no job runners: nobody here has jobs for them, and they greet Ctrl-C with tracebacks
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return
    if code:
        raise KatibFlowError(f"MLflow's server ended with code {code}")


def _check_free(port: int) -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            raise KatibFlowError(f"--port: found {port}, need a free port of this machine ({error.strerror})") from None
