"""Algorithms: (space, history, seed, index) -> suggestions. A file each; registering brings the rest."""

from katib_flow.algorithms.registry import (
    Ask,
    Settings,
    algorithm,
    check_algorithm,
    check_installed,
    find_algorithm,
    registered_algorithms,
)

__all__ = [
    "Ask",
    "Settings",
    "algorithm",
    "check_algorithm",
    "check_installed",
    "find_algorithm",
    "registered_algorithms",
]
