"""History out to MLflow and back in: the only door to it.

MLflow itself is imported only for a store that it must make, or that the thin ways to one do not know.
"""

from katib_flow.tracking.connect import located
from katib_flow.tracking.recorder import Recorder
from katib_flow.tracking.records import Change, Control, Record, Status
from katib_flow.tracking.store import PATIENCE_SECONDS, Store

__all__ = ["PATIENCE_SECONDS", "Change", "Control", "Record", "Recorder", "Status", "Store", "located"]
