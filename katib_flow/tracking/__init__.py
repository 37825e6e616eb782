"""The history in MLflow, written and read: the only package that talks to MLflow.

MLflow itself is imported only to create a store, or for a store that our own lightweight clients do not support.
"""

from katib_flow.tracking.connect import located
from katib_flow.tracking.recorder import Recorder
from katib_flow.tracking.records import Change, Control, Record, Status
from katib_flow.tracking.store import PATIENCE_SECONDS, Store

__all__ = ["PATIENCE_SECONDS", "Change", "Control", "Record", "Recorder", "Status", "Store", "located"]
