"""Argo Workflows simulated in one process, for tests: the features that our Workflows use, on a clock that jumps.

It behaves as Argo's controller does, according to its source and to experiments, and refuses every construct that it
does not know. It is no way to run an experiment; for that, there is ``katib_flow.local``.
"""

from katib_flow.testing.argo.faults import INFRASTRUCTURE, Fault, Random, Scripted, no_faults
from katib_flow.testing.argo.nodes import Node, Phase
from katib_flow.testing.argo.pods import Pod
from katib_flow.testing.argo.programs import ByTemplate, Killed, Program, Result, Waiting
from katib_flow.testing.argo.refusal import ExpressionError, Rejected, Unsupported
from katib_flow.testing.argo.simulator import FREE, Costs, Simulator
from katib_flow.testing.argo.workflow import Workflow

__all__ = [
    "FREE",
    "INFRASTRUCTURE",
    "ByTemplate",
    "Costs",
    "ExpressionError",
    "Fault",
    "Killed",
    "Node",
    "Phase",
    "Pod",
    "Program",
    "Random",
    "Rejected",
    "Result",
    "Scripted",
    "Simulator",
    "Unsupported",
    "Waiting",
    "Workflow",
    "no_faults",
]
