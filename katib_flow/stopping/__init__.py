"""Early stopping: running trial + history -> why it should end now. A file each; registering brings the rest."""

from katib_flow.stopping.registry import (
    Running,
    Settings,
    check_stopping,
    find_rule,
    reason_to_stop,
    registered_rules,
    stopping_rule,
)

__all__ = [
    "Running",
    "Settings",
    "check_stopping",
    "find_rule",
    "reason_to_stop",
    "registered_rules",
    "stopping_rule",
]
