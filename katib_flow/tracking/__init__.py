"""Tracking: History out to MLflow and back in. The only door to MLflow."""

from katib_flow.tracking.records import Change, Control, Record, Status
from katib_flow.tracking.recorder import Recorder
from katib_flow.tracking.store import Store

__all__ = ["Change", "Control", "Record", "Recorder", "Status", "Store"]
