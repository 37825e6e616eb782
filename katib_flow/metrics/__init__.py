"""Reads metrics from log lines, files and endpoints, and reduces them to observations."""

from katib_flow.metrics.strategy import observe, reduce
from katib_flow.metrics.text import LineParser

__all__ = ["LineParser", "observe", "reduce"]
