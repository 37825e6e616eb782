"""Commands that a message prints, for a shell: they act on the store that the message is about."""

import shlex
import shutil
import sys
from pathlib import Path

from katib_flow.tracking.faults import shown


def mlflow_command(uri: str) -> str:
    """How MLflow's own command is called for a store; it knows the store by its environment only.

    A password in the address is left out: MLflow takes it from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    beside = Path(sys.executable).parent / "mlflow"
    found = shutil.which("mlflow")
    ours = found is not None and Path(found).resolve() == beside.resolve()
    program = "mlflow" if ours else f"{shlex.quote(sys.executable)} -m mlflow"
    return f"MLFLOW_TRACKING_URI={shlex.quote(shown(uri))} {program}"
