"""Shell commands that messages suggest; they act on the store that the message is about."""

import shlex
import shutil
import sys
from pathlib import Path

from katib_flow.tracking.faults import shown


def mlflow_command(uri: str) -> str:
    """The start of a shell command that calls MLflow's own program for a store, which it finds by its environment.

    A password in the address is left out; MLflow reads it from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    beside = Path(sys.executable).parent / "mlflow"
    installed = shutil.which("mlflow")
    ours = installed is not None and Path(installed).resolve() == beside.resolve()
    program = "mlflow" if ours else f"{shlex.quote(sys.executable)} -m mlflow"
    return f"MLFLOW_TRACKING_URI={shlex.quote(shown(uri))} {program}"
