"""The logs of an object's pods, line by line as they grow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from katib_flow.argo.cluster import POD, Cluster, ClusterError, Missing
from katib_flow.argo.steps.manifests import Watched

OVERLAP_SECONDS = 10  # what is read twice, because clocks differ


@dataclass
class _Place:
    """How far a pod's log has been read: the time of its last line, and how many lines had that time."""

    last: str = ""
    count: int = 0
    read_at: float | None = None


@dataclass
class PodLogs:
    """Everything that a container in the pods of an object prints, each line once.

    Attributes:
        container: None for the only one.
        take: called with each line and its time in milliseconds.
    """

    cluster: Cluster
    watched: Watched
    container: str | None
    take: Callable[[str, int], None]
    clock: Callable[[], float] = time.monotonic
    _places: dict[str, _Place] = field(default_factory=dict[str, _Place])

    def read(self) -> None:
        """Read on. A pod that is gone is passed over: it may be deleted while we look."""
        for pod in self.cluster.find(POD, self.watched.pods):
            if self.watched.owns(pod):
                self._read(pod["metadata"]["name"])

    def _read(self, pod: str) -> None:
        place, now = self._places.setdefault(pod, _Place()), self.clock()
        since = None if place.read_at is None or not place.last else int(now - place.read_at) + OVERLAP_SECONDS
        try:
            text = self.cluster.log(pod, self.container, since)
        except Missing:
            return
        except ClusterError as error:
            if error.status == 400:  # it has no such container
                return
            raise
        place.read_at = now
        last, known = place.last, place.count  # before this call
        for line in filter(None, text.split("\n")):  # a carriage return is part of a line, and begins no other
            stamp, _, rest = line.partition(" ")
            at = _comparable(stamp)
            if at < last:
                continue
            if at == last and known:
                known -= 1
                continue
            place.count = place.count + 1 if at == place.last else 1
            place.last = at
            self.take(rest, _milliseconds(stamp))


def _comparable(stamp: str) -> str:
    """A time whose order as text is that of time: trailing zeros of the nanoseconds are left out in logs."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction[:9]:0<9}"


def _milliseconds(stamp: str) -> int:
    try:
        return int(datetime.fromisoformat(stamp).timestamp() * 1000)
    except ValueError:
        return int(time.time() * 1000)
