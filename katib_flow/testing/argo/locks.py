"""Semaphores and mutexes of templates, across Workflows: their holders, and the nodes that wait for them.

The older Workflow gets a lock first; within a Workflow, the node that requested it first.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from katib_flow.testing.argo.refusal import Rejected
from katib_flow.testing.argo.substitution import substitute
from katib_flow.testing.argo.workflow import Manifest, Workflow
from katib_flow.testing.kubernetes import FakeCluster

Holder = tuple[str, str]
"""The names of a Workflow and of a node."""


class Locks:
    """The locks of a namespace."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._holders: dict[str, set[Holder]] = {}
        self._waiting: dict[str, dict[Holder, tuple[float, int]]] = {}
        self._arrivals = itertools.count()

    def acquire(self, holder: Holder, created: float, synchronization: Manifest) -> str:
        """Take all locks of a template, or none of them; return the name of a lock that is not free, or ""."""
        limits = self._limits(synchronization)
        for lock, limit in limits.items():
            holders, waiting = self._holders.setdefault(lock, set()), self._waiting.setdefault(lock, {})
            if holder in holders:
                continue
            mine = waiting.setdefault(holder, (created, next(self._arrivals)))
            if len(holders) + sum(other < mine for other in waiting.values()) >= limit:
                return lock
        for lock in limits:
            self._holders[lock].add(holder)
            self._waiting[lock].pop(holder, None)
        return ""

    def release(self, workflow: str, node: str) -> bool:
        """Release the locks that a node holds or waits for; return whether it held any.

        Args:
            node: its name, or "" for all nodes of the Workflow.
        """
        released = False
        for lock, holders in self._holders.items():
            mine = {holder for holder in holders if holder[0] == workflow and node in ("", holder[1])}
            released = released or bool(mine)
            holders -= mine
            waiting = self._waiting[lock]
            for holder in [holder for holder in waiting if holder[0] == workflow and node in ("", holder[1])]:
                del waiting[holder]
        return released

    def held(self, lock: str) -> int:
        """Number of holders of a lock."""
        return len(self._holders.get(lock, ()))

    def recover(self, workflows: Iterable[Workflow]) -> None:
        """Reconstruct the holders of all locks from the stored Workflows, as a restarted controller does."""
        self._holders.clear()
        self._waiting.clear()
        for workflow in workflows:
            templates: dict[str, Any] = {template["name"]: template for template in workflow.spec.get("templates", [])}
            for node in () if workflow.completed else workflow.nodes:
                synchronization = templates.get(node.template, {}).get("synchronization")
                if synchronization and not node.phase.fulfilled and not node.waiting and not node.retried:
                    inputs = {f"inputs.parameters.{name}": value for name, value in node.inputs.items()}
                    for lock in self._limits(substitute(synchronization, {**workflow.globals, **inputs})):
                        self._holders.setdefault(lock, set()).add((workflow.name, node.name))
                        self._waiting.setdefault(lock, {})

    def _limits(self, synchronization: Manifest) -> dict[str, int]:
        limits: dict[str, int] = {}
        for semaphore in synchronization.get("semaphores", []):
            reference = semaphore["configMapKeyRef"]
            limits[f"ConfigMap/{reference['name']}/{reference['key']}"] = self._size(**reference)
        for mutex in synchronization.get("mutexes", []):
            limits[f"Mutex/{mutex['name']}"] = 1
        return limits

    def _size(self, name: str, key: str) -> int:
        config_map = self._cluster.peek(("v1", "ConfigMap"), name)
        if config_map is None or key not in config_map.get("data", {}):
            raise Rejected(f"configmaps {name!r} with the key {key!r} not found")
        return int(config_map["data"][key])
