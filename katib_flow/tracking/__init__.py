"""History out to MLflow and back in: the only door to it.

``import katib_flow.tracking`` does not import MLflow; making a ``Store`` does.
"""

from katib_flow.tracking.recorder import Recorder
from katib_flow.tracking.records import Change, Control, Record, Status
from katib_flow.tracking.store import Store

__all__ = ["Change", "Control", "Record", "Recorder", "Status", "Store"]
