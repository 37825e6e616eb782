"""Faults of pods, as seen on a real controller, with Argo's reactions.

A fault strikes one attempt. ``Random`` draws faults from a random stream that depends only on the pod's name, so the
order of events does not matter.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from katib_flow.testing.argo.pods import Pod


class Fault(StrEnum):
    """A fault of one attempt.

    INIT: Argo's own init container, or ``prepare``, fails; main never starts.
    DELETED: the pod is deleted before its program has recorded anything.
    HALFWAY: the program is killed while it is recording its results, and the pod is gone.
    LOST: the program does all its work, but the pod is gone before its exit code has been read.
    EVICTED: main is terminated, and ends with exit code 143.
    TWICE: the node was cut off: the program has done all its work, and another pod does it again.
    OUTPUT: the executor cannot read the output files.
    MEMORY: the container runs out of memory.
    DEADLINE: the program hangs until the pod's own deadline.
    SIDECAR: a sidecar ends with an error.
    """

    INIT = "init"
    DELETED = "deleted"
    HALFWAY = "halfway"
    LOST = "lost"
    EVICTED = "evicted"
    TWICE = "twice"
    OUTPUT = "output"
    MEMORY = "memory"
    DEADLINE = "deadline"
    SIDECAR = "sidecar"


INFRASTRUCTURE = tuple(fault for fault in Fault if fault not in (Fault.MEMORY, Fault.DEADLINE, Fault.SIDECAR))
"""Faults of the infrastructure, after which an attempt is repeated and no trial fails."""


class Faults(Protocol):
    """Decides which fault strikes a pod; None if it is spared."""

    def __call__(self, pod: Pod) -> Fault | None: ...


def no_faults(pod: Pod) -> Fault | None:
    """Spare every pod."""
    return None


@dataclass
class Scripted:
    """Faults by the end of the node's name, such as ``trial(0:t00001)(0)``; each strikes once.

    Attributes:
        struck: the faults that have struck, by the name of the node.
    """

    plan: Mapping[str, Fault]
    struck: dict[str, Fault] = field(default_factory=dict[str, Fault])

    def __call__(self, pod: Pod) -> Fault | None:
        for end, fault in self.plan.items():
            if pod.node.endswith(end) and pod.node not in self.struck:
                self.struck[pod.node] = fault
                return fault
        return None


@dataclass
class Random:
    """Random faults, each with the same probability.

    Attributes:
        probability: of each of ``kinds``, per attempt.
        most: the most faults for all attempts of a node together, so that its retries suffice.
        struck: number of faults, by node.
        drawn: number of faults, by kind.
    """

    seed: int
    probability: float
    kinds: tuple[Fault, ...] = INFRASTRUCTURE
    most: int = 2
    struck: Counter[str] = field(default_factory=Counter[str])
    drawn: Counter[Fault] = field(default_factory=Counter[Fault])

    def __call__(self, pod: Pod) -> Fault | None:
        node = pod.node.removesuffix(f"({pod.attempt})")
        count = self.struck[node]
        draw = random.Random(f"{self.seed} {pod.workflow} {pod.node} {count}").random()
        position = int(draw / self.probability)
        if count >= self.most or position >= len(self.kinds):
            return None
        self.struck[node] += 1
        self.drawn[self.kinds[position]] += 1
        return self.kinds[position]
