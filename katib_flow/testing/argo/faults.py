"""What goes wrong with pods, as it was seen on a real controller, and what Argo makes of it.

A fault strikes one attempt. ``Random`` draws them, from a stream that the pod's name alone decides: the order in which
things happen changes nothing.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from katib_flow.testing.argo.pods import Pod


class Fault(StrEnum):
    """What becomes of one attempt.

    INIT: Argo's own container, or prepare, fails; main never starts.
    DELETED: the pod is deleted before its program has done anything that lasts.
    HALFWAY: the program is killed in the middle of what it records, and the pod is gone.
    LOST: the program does all its work, and the pod is gone before anyone has read how it ended.
    EVICTED: main is told to go, and passes 143 on.
    TWICE: the node was cut off: its program has done all its work, and another pod does it once more.
    OUTPUT: the executor cannot read the output files.
    MEMORY: too little memory.
    DEADLINE: it hangs until the pod's own deadline.
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


INFRASTRUCTURE = tuple(each for each in Fault if each not in (Fault.MEMORY, Fault.DEADLINE, Fault.SIDECAR))
"""Faults of machines, which are tried again and are nobody's failure."""


class Faults(Protocol):
    """Which fault strikes a pod; None for none."""

    def __call__(self, pod: Pod) -> Fault | None: ...


def no_faults(pod: Pod) -> Fault | None:
    return None


@dataclass
class Scripted:
    """Faults by the end of the node's name, such as ``trial(0:t00001)(0)``; each strikes once.

    Attributes:
        struck: the pods that were, with what.
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
    """Each fault of some kinds with a probability of its own.

    Attributes:
        most: how often the attempts of one node may be struck altogether, so that its retries suffice.
        struck: how often each was.
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
