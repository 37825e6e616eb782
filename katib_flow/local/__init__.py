"""The loop on this machine.

The names below are imported on first use: a worker, which is forked for every trial, does not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from katib_flow.local.result import Result
    from katib_flow.local.run import resume_experiment, run_experiment

__all__ = ["Result", "resume_experiment", "run_experiment"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"katib_flow.local.{'result' if name == 'Result' else 'run'}"), name)
    raise AttributeError(f"module 'katib_flow.local' has no attribute {name!r}")
