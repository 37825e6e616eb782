"""Read the logs of an object's pods line by line as they grow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from katib_flow.argo.cluster import POD, Cluster, ClusterError, Missing
from katib_flow.argo.steps.manifests import Watched

OVERLAP_SECONDS = 10  # read again on each call, because clocks differ


@dataclass
class _Position:
    """How far a pod's log has been read: the time of the last line, and the number of lines with that time."""

    last: str = ""
    count: int = 0
    read_at: float | None = None


@dataclass
class PodLogs:
    """Reads the output of one container in all pods of an object, each line once.

    Attributes:
        cluster: the object's namespace.
        watched: the object.
        container: name of the container; None if each pod has only one.
        take: called with each line and its time in milliseconds since the epoch.
        clock: returns a monotonic time in seconds.
    """

    cluster: Cluster
    watched: Watched
    container: str | None
    take: Callable[[str, int], None]
    clock: Callable[[], float] = time.monotonic
    _positions: dict[str, _Position] = field(default_factory=dict[str, _Position])

    def read(self) -> None:
        """Read the new lines. A pod that was deleted meanwhile is skipped."""
        for pod in self.cluster.find(POD, self.watched.pods):
            if self.watched.owns(pod):
                self._read(pod["metadata"]["name"])

    def _read(self, pod: str) -> None:
        position, now = self._positions.setdefault(pod, _Position()), self.clock()
        since = None
        if position.read_at is not None and position.last:
            since = int(now - position.read_at) + OVERLAP_SECONDS
        try:
            text = self.cluster.log(pod, self.container, since)
        except Missing:
            return
        except ClusterError as error:
            if error.status == 400:  # the pod has no such container
                return
            raise
        position.read_at = now
        last, known = position.last, position.count  # before this call
        for line in filter(None, text.split("\n")):  # not splitlines: a carriage return is part of a line
            stamp, _, rest = line.partition(" ")
            at = _comparable(stamp)
            if at < last:
                continue
            if at == last and known:
                known -= 1
                continue
            position.count = position.count + 1 if at == position.last else 1
            position.last = at
            self.take(rest, _milliseconds(stamp))


def _comparable(stamp: str) -> str:
    """Pad a time to nanoseconds, because logs omit trailing zeros, so that text order is time order."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{seconds}.{fraction[:9]:0<9}"


def _milliseconds(stamp: str) -> int:
    try:
        return int(datetime.fromisoformat(stamp).timestamp() * 1000)
    except ValueError:
        return int(time.time() * 1000)
