"""Of an object, that something has changed: the cluster tells, so that nobody has to ask all the time.

What has changed is not told, and nothing depends on it: who waits asks the cluster itself, at once where there is news
and now and then where there is none. A change that the cluster did not tell of is found late, and never missed.
"""

import http.client
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from katib_flow.argo.cluster import Cluster, ClusterError, Kind
from katib_flow.errors import KatibFlowError

AGAIN_SECONDS = 1.0  # after a call that failed, and twice as long after the next
LONGEST_SECONDS = 30.0


class Waiting(Protocol):
    """How one waits between two looks at an object."""

    @property
    def told(self) -> bool:
        """Whether the cluster tells of changes; else one has to look."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for news, or so long; whether it is time to look."""
        ...


class Asleep:
    """Waits without news."""

    told = False

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def wait(self, seconds: float) -> bool:
        self._sleep(seconds)
        return True


class News:
    """News of an object, whether it is there already or not, from a thread of its own while a ``with`` block lasts.

    Where the cluster is away it is asked again, with growing pauses; where it does not allow to be told, no more.
    """

    def __init__(self, cluster: Cluster, kind: Kind, name: str) -> None:
        self._cluster, self._kind, self._name = cluster, kind, name
        self._new, self._over = threading.Event(), threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._listen, name="katib-flow news", daemon=True)

    def __enter__(self) -> "News":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()  # the thread may wait for the cluster; it ends with the program

    @property
    def told(self) -> bool:
        return self._told

    def wait(self, seconds: float) -> bool:
        news = self._new.wait(seconds)
        self._new.clear()
        return news

    def _listen(self) -> None:
        since, pause = "", AGAIN_SECONDS
        while not self._over.is_set():
            before = since
            try:
                for version in self._cluster.changes(self._kind, {}, self._name, since):
                    since, self._told, pause = version, True, AGAIN_SECONDS
                    self._new.set()
                    if self._over.is_set():
                        return
            except KatibFlowError as error:
                self._told, since = False, ""  # what happened meanwhile is not told: one has to look
                self._new.set()
                if not (isinstance(error, ClusterError) and (error.transient or error.status == http.client.GONE)):
                    return
            if since in ("", before):  # it failed, or it told of nothing for as long as it could
                self._over.wait(pause)
                pause = min(2 * pause, LONGEST_SECONDS)
