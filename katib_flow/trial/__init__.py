"""One trial as a process: protocol, runner, and what user code may call."""

from katib_flow.trial.protocol import TrialDirectory
from katib_flow.trial.runner import Outcome, run_trial

__all__ = ["Outcome", "TrialDirectory", "run_trial"]
