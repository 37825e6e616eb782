"""History -> what a person wants to know of a search: its report, and which parameters matter."""

from katib_flow.reports.importance import Importance, Pair, importance
from katib_flow.reports.stored import keep_report, write_report

__all__ = ["Importance", "Pair", "importance", "keep_report", "write_report"]
