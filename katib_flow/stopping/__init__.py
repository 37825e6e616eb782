"""Early stopping: rules that decide from the history whether a running trial should end. Each has its own file."""

from katib_flow.stopping.registry import (
    Running,
    Settings,
    check_stopping,
    find_rule,
    judged_metrics,
    reason_to_stop,
    registered_rules,
    rule_of,
    stopping_rule,
)
from katib_flow.stopping.service import with_rules

__all__ = [
    "Running",
    "Settings",
    "check_stopping",
    "find_rule",
    "judged_metrics",
    "reason_to_stop",
    "registered_rules",
    "rule_of",
    "stopping_rule",
    "with_rules",
]
