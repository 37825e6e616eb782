"""Semaphores and mutexes of templates: who holds them, and who waits, across Workflows.

The older Workflow gets a lock first, and in one Workflow who asked first.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from katib_flow.testing.argo.refusal import Rejected
from katib_flow.testing.argo.substitution import substitute
from katib_flow.testing.argo.workflow import Manifest, Workflow
from katib_flow.testing.kubernetes import FakeCluster

Holder = tuple[str, str]
"""Name of a Workflow and of a node."""


class Locks:
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._holders: dict[str, set[Holder]] = {}
        self._waiting: dict[str, dict[Holder, tuple[float, int]]] = {}
        self._arrivals = itertools.count()

    def acquire(self, holder: Holder, created: float, synchronization: Manifest) -> str:
        """Take all the locks of a template, or none; the name of one that is not free, or nothing."""
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
        """Give back what a node holds or waits for, or without one all of a Workflow; whether it held anything."""
        released = False
        for lock, holders in self._holders.items():
            mine = {each for each in holders if each[0] == workflow and node in ("", each[1])}
            released = released or bool(mine)
            holders -= mine
            for each in [each for each in self._waiting[lock] if each[0] == workflow and node in ("", each[1])]:
                del self._waiting[lock][each]
        return released

    def held(self, lock: str) -> int:
        return len(self._holders.get(lock, ()))

    def recover(self, workflows: Iterable[Workflow]) -> None:
        """Work out who holds what from what the controller has written."""
        self._holders.clear()
        self._waiting.clear()
        for workflow in workflows:
            templates: dict[str, Any] = {each["name"]: each for each in workflow.spec.get("templates", [])}
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
        found = self._cluster.peek(("v1", "ConfigMap"), name)
        if found is None or key not in found.get("data", {}):
            raise Rejected(f"configmaps {name!r} with the key {key!r} not found")
        return int(found["data"][key])
