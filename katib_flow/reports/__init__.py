"""History -> what a person wants to know of a search."""

from katib_flow.reports.importance import Importance, Pair, importance

__all__ = ["Importance", "Pair", "importance"]
