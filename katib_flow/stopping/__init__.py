"""Early stopping: running trial + history -> why it should end now. A file each; registering brings the rest."""

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
