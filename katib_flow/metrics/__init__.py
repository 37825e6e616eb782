"""Metrics: log lines, files, endpoints -> Metric -> Observation."""

from katib_flow.metrics.strategy import observe, reduce
from katib_flow.metrics.text import LineParser

__all__ = ["LineParser", "observe", "reduce"]
