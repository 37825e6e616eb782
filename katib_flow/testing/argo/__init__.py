"""Argo Workflows in one process, for tests: the part of it that we emit, on a clock that jumps.

It does what Argo's controller was seen and read to do, and refuses every construct that it does not know. It is never a
way to run an experiment: ``katib_flow.local`` is.
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
