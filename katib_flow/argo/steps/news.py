"""Watch an object for changes, so that the caller need not poll it all the time.

The news is only that something has changed. The caller then reads the object, and also reads it now and then without
news, so a change that the cluster does not report is noticed late but never missed.
"""

import http.client
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from katib_flow.argo.cluster import Cluster, ClusterError, Kind
from katib_flow.errors import KatibFlowError

AGAIN_SECONDS = 1.0  # pause after a failed request; doubled after each further one
LONGEST_SECONDS = 30.0


class Waiting(Protocol):
    """How to wait between two looks at an object."""

    @property
    def notifies(self) -> bool:
        """Whether the cluster reports changes; if not, the caller must poll."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for news for at most ``seconds``; return whether to look at the object now."""
        ...


class Asleep:
    """Waits without news, so that the caller polls."""

    notifies = False

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds``; the caller must always look at the object afterwards."""
        self._sleep(seconds)
        return True


class News:
    """Watches an object, which need not exist yet, from its own thread inside a ``with`` block.

    While the cluster does not answer, the watch is retried with growing pauses. If the cluster refuses it, it ends.
    """

    def __init__(self, cluster: Cluster, kind: Kind, name: str) -> None:
        self._cluster, self._kind, self._name = cluster, kind, name
        self._new, self._over = threading.Event(), threading.Event()
        self._notifies = False
        self._thread = threading.Thread(target=self._listen, name="katib-flow news", daemon=True)

    def __enter__(self) -> "News":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()  # not joined: the thread may be waiting for the cluster, and ends with the process

    @property
    def notifies(self) -> bool:
        """Whether the watch is running, so that the caller need not poll."""
        return self._notifies

    def wait(self, seconds: float) -> bool:
        """Wait for news for at most ``seconds``; return whether there was any."""
        news = self._new.wait(seconds)
        self._new.clear()
        return news

    def _listen(self) -> None:
        since, pause = "", AGAIN_SECONDS
        while not self._over.is_set():
            before = since
            try:
                for version in self._cluster.changes(self._kind, {}, self._name, since):
                    since, self._notifies, pause = version, True, AGAIN_SECONDS
                    self._new.set()
                    if self._over.is_set():
                        return
            except KatibFlowError as error:
                self._notifies, since = False, ""  # changes may be missed until the next watch
                self._new.set()
                if not (isinstance(error, ClusterError) and (error.transient or error.status == http.client.GONE)):
                    return
            if since in ("", before):  # the watch failed, or ended without a change
                self._over.wait(pause)
                pause = min(2 * pause, LONGEST_SECONDS)
