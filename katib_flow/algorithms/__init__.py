"""Algorithms: pure functions from an experiment and its history to suggestions. Each has a file of its own."""

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
