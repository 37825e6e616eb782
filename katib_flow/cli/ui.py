"""MLflow's own UI on a store."""

import os
import subprocess
import sys

from katib_flow.errors import KatibFlowError
from katib_flow.tracking import Store


def serve(port: int, store: Store) -> None:
    """Run MLflow's server on this machine until it is interrupted.

    Raises:
        KatibFlowError: the server ended with an error; what it printed stands above.
    """
    if store.uri.startswith(("http://", "https://")):
        print(f"the store has a UI of its own: {store.uri}")
        return
    print(f"MLflow's UI: http://127.0.0.1:{port} (experiment {store.experiment}); Ctrl-C ends it", flush=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        store.uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    try:
        code = subprocess.run(command, env={**os.environ, "MLFLOW_TRACKING_URI": store.uri}, check=False).returncode
    except KeyboardInterrupt:
        return
    if code not in (0, -2, 130):
        raise KatibFlowError(f"MLflow's server ended with code {code}; is port {port} in use? try --port")
