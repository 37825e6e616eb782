"""The loop on this machine."""

from katib_flow.local.result import Result
from katib_flow.local.run import resume_experiment, run_experiment

__all__ = ["Result", "resume_experiment", "run_experiment"]
