"""A Kubernetes namespace in memory, a ``katib_flow.argo.cluster.Cluster`` for tests of code that talks to a cluster.

Objects are stored as they are created; nothing runs them. A test changes them by ``set_status``, ``add_pod``,
``print_``, or a function in ``on_create``, which is called with each new object. Deleting an object deletes those that
it owns.
"""

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from katib_flow.argo.cluster import (
    NOTHING,
    POD,
    WATCH_SECONDS,
    AlreadyExists,
    ClusterError,
    Kind,
    Manifest,
    Missing,
    kind_of,
)

EPOCH = 1_700_000_000.0
_NAME = re.compile(r"(?!.{254})[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass
class FakeCluster:
    """One namespace.

    Attributes:
        clock: the time in seconds since the epoch, for creation times and logs.
        on_create: called with a copy of each object after its creation; may change the object by the methods here.
        on_change: called with the kind and the name of each object after it is patched or deleted.
        refusals: errors that the next calls raise, one per call: a cluster that is unavailable, overloaded, or forbids
            something.
        calls: (verb, kind, name) of every call so far.
        statuses: for a kind, a function from an object's name to its status, called when the object is read; if it
            returns None, the stored status stays.
    """

    namespace: str = "default"
    clock: Callable[[], float] = lambda: EPOCH
    on_create: list[Callable[[Manifest], None]] = field(default_factory=list[Callable[[Manifest], None]])
    on_change: list[Callable[[Kind, str], None]] = field(default_factory=list[Callable[[Kind, str], None]])
    refusals: list[ClusterError] = field(default_factory=list[ClusterError])
    calls: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    statuses: dict[Kind, Callable[[str], Manifest | None]] = field(
        default_factory=dict[Kind, Callable[[str], Manifest | None]]
    )
    _objects: dict[tuple[Kind, str], Manifest] = field(default_factory=dict[tuple[Kind, str], Manifest])
    _logs: dict[tuple[str, str], list[tuple[float, str]]] = field(
        default_factory=dict[tuple[str, str], list[tuple[float, str]]]
    )
    _made: int = 0
    _events: list[tuple[Kind, str, dict[str, str]]] = field(default_factory=list[tuple[Kind, str, dict[str, str]]])
    _forgotten: int = 0
    _news: threading.Condition = field(default_factory=threading.Condition)

    # what a Cluster does

    def create(self, manifest: Manifest) -> Manifest:
        """As ``Cluster.create``."""
        created = json.loads(json.dumps(manifest))  # a cluster only gets JSON
        metadata, kind = created["metadata"], kind_of(created)
        self._made += 1
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{self._made:05}"
        name: str = metadata["name"]
        self._called("create", kind, name)
        if not _NAME.fullmatch(name):
            raise ClusterError(f"create {kind[1]} {name}: the cluster answers 422 Invalid", 422)
        if (kind, name) in self._objects:
            raise AlreadyExists(name)
        metadata |= {"uid": f"uid-{self._made}", "creationTimestamp": _time(self.clock()), "namespace": self.namespace}
        self._objects[kind, name] = created
        self._note(kind, name, created)
        for callback in self.on_create:
            callback(copy.deepcopy(created))
        return self.object(kind, name)

    def get(self, kind: Kind, name: str) -> Manifest:
        """As ``Cluster.get``."""
        self._called("get", kind, name)
        return self.object(kind, name)

    def find(self, kind: Kind, labels: Mapping[str, str], fields: Mapping[str, str] = NOTHING) -> list[Manifest]:
        """As ``Cluster.find``."""
        self._called("find", kind, "")
        names = [
            name
            for (its_kind, name), manifest in self._objects.items()
            if its_kind == kind
            and labels.items() <= manifest["metadata"].get("labels", {}).items()
            and all(_field(manifest, path) == value for path, value in fields.items())
        ]
        return [self.object(kind, name) for name in names]

    def patch(self, kind: Kind, name: str, changes: Manifest) -> Manifest:
        """As ``Cluster.patch``."""
        self._called("patch", kind, name)
        _merge(self._there(kind, name), json.loads(json.dumps(changes)))
        self._note(kind, name, self._there(kind, name))
        self._changed(kind, name)
        return self.object(kind, name)

    def delete(self, kind: Kind, name: str) -> None:
        """As ``Cluster.delete``."""
        self._called("delete", kind, name)
        if (kind, name) in self._objects:
            self._remove(kind, name)
            self._changed(kind, name)

    def changes(
        self, kind: Kind, labels: Mapping[str, str], name: str = "", since: str = "", seconds: int = WATCH_SECONDS
    ) -> Iterator[str]:
        """As ``Cluster.changes``, by the computer's own clock."""
        if since:
            self._called("watch", kind, name)
            return self._new_versions(kind, labels, name, int(since), time.monotonic() + seconds)
        self._called("list", kind, name)
        end = time.monotonic() + seconds
        return chain([now := self.version], self._new_versions(kind, labels, name, int(now), end))

    def log(self, pod: str, container: str | None, since_seconds: int | None = None) -> str:
        """As ``Cluster.log``."""
        self._called("log", POD, pod)
        self._there(POD, pod)
        named = [name for its_pod, name in self._logs if its_pod == pod]
        container = container or (named[0] if len(named) == 1 else "main")
        least = 0.0 if since_seconds is None else self.clock() - since_seconds
        lines = [(at, line) for at, line in self._logs.get((pod, container), []) if at >= least]
        return "".join(f"{_time(at)} {line}\n" for at, line in lines)

    # what a test does

    def object(self, kind: Kind, name: str) -> Manifest:
        """A copy of an object, with its current status.

        Raises:
            Missing: there is no such object.
        """
        copied = copy.deepcopy(self._there(kind, name))
        if (status := self.statuses.get(kind)) is not None and (now := status(name)) is not None:
            copied["status"] = now
        return copied

    def peek(self, kind: Kind, name: str) -> Manifest | None:
        """The object itself, which must not be changed; None if it does not exist."""
        return self._objects.get((kind, name))

    @property
    def version(self) -> str:
        """The resource version of the namespace: the number of changes so far."""
        return str(self._forgotten + len(self._events))

    def forget_changes(self) -> None:
        """Forget all changes, so that no watch can continue from an earlier version."""
        with self._news:
            self._forgotten += len(self._events) + 1
            self._events.clear()
            self._news.notify_all()

    def names(self, kind: Kind) -> list[str]:
        """The names of all objects of a kind, in the order of their creation."""
        return [name for its_kind, name in self._objects if its_kind == kind]

    def set_status(self, kind: Kind, name: str, **status: Any) -> None:
        """Replace the status of an object.

        Raises:
            Missing: there is no such object.
        """
        self._there(kind, name)["status"] = status
        self._note(kind, name, self._there(kind, name))

    def add_pod(self, name: str, labels: Mapping[str, str] | None = None, owner: Manifest | None = None) -> None:
        """Create a pod, as a controller does for an object."""
        references = [] if owner is None else [owner_reference(owner)]
        metadata = {"name": name, "labels": dict(labels or {}), "ownerReferences": references}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}})

    def print_(self, pod: str, text: str, container: str = "main") -> None:
        """Add lines to the log of a container, with the current time."""
        lines = self._logs.setdefault((pod, container), [])
        lines += [(self.clock(), line) for line in text.splitlines()]

    def _new_versions(self, kind: Kind, labels: Mapping[str, str], name: str, read: int, end: float) -> Iterator[str]:
        while (left := end - time.monotonic()) > 0:
            with self._news:
                if int(self.version) <= read:
                    self._news.wait(left)
                if read < self._forgotten:
                    raise ClusterError(f"watch {kind[1]}: the cluster answers 410 Gone", 410)
                new = self._events[read - self._forgotten :]
            for its_kind, its_name, its_labels in new:
                read += 1
                if its_kind == kind and labels.items() <= its_labels.items() and name in ("", its_name):
                    yield str(read)

    def _note(self, kind: Kind, name: str, manifest: Manifest) -> None:
        with self._news:
            self._events.append((kind, name, manifest["metadata"].get("labels", {})))
            self._news.notify_all()

    def _called(self, verb: str, kind: Kind, name: str) -> None:
        self.calls.append((verb, kind[1], name))
        if self.refusals:
            raise self.refusals.pop(0)

    def _changed(self, kind: Kind, name: str) -> None:
        for callback in self.on_change:
            callback(kind, name)

    def _there(self, kind: Kind, name: str) -> Manifest:
        try:
            return self._objects[kind, name]
        except KeyError:
            raise Missing(f"{kind[1]} {name}") from None

    def _remove(self, kind: Kind, name: str) -> None:
        removed = self._objects.pop((kind, name))
        self._note(kind, name, removed)
        uid = removed["metadata"]["uid"]
        for (its_kind, its_name), manifest in list(self._objects.items()):
            if uid in [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]:
                self._remove(its_kind, its_name)


def owner_reference(owner: Manifest) -> Manifest:
    """The owner reference of an object that belongs to ``owner`` and is deleted with it."""
    api_version, kind = kind_of(owner)
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


def _field(manifest: Manifest, path: str) -> Any:
    value: Any = manifest
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _merge(target: Manifest, changes: Manifest) -> None:
    for key, value in changes.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
