"""The lease of an experiment: a tag of its run that the owner renews, so that no two processes run it at once.

MLflow has no lock and no compare-and-swap. So a process writes the tag and reads it again before its first trial
starts; of two that start at once, the one whose tag was overwritten gives up, at once or at its next renewal. Whether
the owner's process still exists can be checked on its own machine. On others its lease is watched: clocks differ, but a
lease that is renewed changes.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from katib_flow.errors import KatibFlowError, TrackingError
from katib_flow.foreign import from_json
from katib_flow.processes import PROC, boot, born

TAG = "katib_flow.lease"
BEAT_SECONDS = 20.0
STALE_SECONDS = 90.0
WATCH_SECONDS = 30.0  # how long a lease that looks stale must stay unchanged

_held: set[str] = set()  # owners in this process


class Held(KatibFlowError):
    """Another process is running the experiment."""


class LeaseLost(TrackingError):
    """Another process has taken over: this one must leave the experiment alone."""


@dataclass(frozen=True)
class Lease:
    """The owner of an experiment.

    Attributes:
        owner: a unique id.
        host, what: where it runs and as what, for people.
        since, beat: when it began and when it was last renewed, in seconds since the epoch, by the owner's clock.
        machine: where its process can be looked up; "" for a Workflow, which has more than one process.
        pid, born: the process id and the start of its process; the start differs if the id was used again.
    """

    owner: str
    host: str
    what: str
    since: float
    beat: float
    machine: str = ""
    pid: int = 0
    born: int = 0

    @classmethod
    def own(cls, now: float) -> "Lease":
        """A new lease of this process."""
        pid = os.getpid()
        host = socket.gethostname()
        return cls(uuid.uuid4().hex, host, f"process {pid}", now, now, _machine(), pid, born(pid) or 0)

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> "Lease | None":
        """The lease in the tags of a run; None if the tag is missing, empty or damaged."""
        try:
            data: dict[str, Any] = from_json(tags.get(TAG) or "null")
            owner, host, what, machine = (str(data[name])[:200] for name in ("owner", "host", "what", "machine"))
            since, beat = float(data["since"]), float(data["beat"])
            return cls(owner, host, what, since, beat, machine, int(data["pid"]), int(data["born"]))
        except (ValueError, TypeError, KeyError, OverflowError):
            return None

    def gone(self) -> bool | None:
        """True if its process has ended; None if that cannot be seen from this machine."""
        if not self.machine or self.machine != _machine():
            return None
        if self.pid == os.getpid():
            return self.owner not in _held
        return born(self.pid) != self.born

    def stale(self, now: float) -> bool:
        """True if the last renewal is more than ``STALE_SECONDS`` away, assuming that the clocks agree."""
        return abs(now - self.beat) > STALE_SECONDS

    def abandoned(self, now: float) -> bool:
        """True if nobody runs the experiment any more. Never for a Workflow, which may wait for a machine for long."""
        return bool(self.machine) and (self.stale(now) if (gone := self.gone()) is None else gone)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).astimezone().isoformat(sep=" ", timespec="seconds")
        return f"{self.what} on {self.host} since {since}"


def _machine() -> str:
    """A name for this boot of this machine and its container; "" if processes cannot be looked up."""
    with contextlib.suppress(OSError):
        if name := boot():
            return f"{name}/{(PROC / 'self/ns/pid').readlink()}"
    return ""


@dataclass
class Holding:
    """The lease that this process holds on an experiment; as a context manager, it renews the lease in a thread.

    Attributes:
        read, write: read and write the tags of the experiment's run.
        name: the name of the experiment.
        say: called with messages for the user.
        clock, sleep: replacements for ``time.time`` and ``time.sleep``.
        lost: a message that says who has taken over; "" while nobody has.
    """

    read: Callable[[], Mapping[str, str]]
    write: Callable[[Mapping[str, str]], None]
    name: str
    say: Callable[[str], None]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    own: Lease | None = None
    lost: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> Self:
        """Become the owner, or renew the lease.

        Raises:
            Held: another process is the owner.
            TrackingError: the store does not answer.
        """
        own = self.own or Lease.own(self.clock())
        lease = Lease.read(self.read())
        if lease is not None and lease.owner != own.owner:
            self._wait_until_free(lease)
        elif lease is not None:
            own = replace(own, since=lease.since)
        _held.add(own.owner)
        self.own = own
        if lease is None or lease.owner != own.owner or own.beat - lease.beat >= BEAT_SECONDS:
            self._write(own)
        return self

    def _wait_until_free(self, lease: Lease) -> None:
        if (gone := lease.gone()) is False or (gone is None and not lease.stale(self.clock())):
            raise Held(self._refusal(lease))
        if gone is None:
            self.say(
                f"{self.name}: {lease} has not renewed its lease; watching for {WATCH_SECONDS:.0f} s for signs of it"
            )
            self.sleep(WATCH_SECONDS)
            now = Lease.read(self.read())
            if now is not None and now != lease:
                raise Held(self._refusal(now))
        self.say(f"{self.name}: taken over from {lease}, which has ended")

    def _refusal(self, lease: Lease) -> str:
        seen = max(0.0, self.clock() - lease.beat)
        return (
            f"{self.name}: another process is running this experiment: {lease}, last seen {seen:.0f} s ago; stop it "
            f"first (katib-flow stop {self.name}). If it has ended, try again {STALE_SECONDS:.0f} s after it was last "
            "seen"
        )

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLost: another process has taken over.
        """
        with self._writing:
            if self._over.is_set() or self.own is None:
                return
            self.confirm()
            self.own = replace(self.own, beat=self.clock())
            self._write(self.own)

    def confirm(self) -> None:
        """Check that no other process has taken over.

        Raises:
            LeaseLost: another process has.
        """
        assert self.own is not None
        current = Lease.read(self.read())
        if current is not None and current.owner != self.own.owner:
            self.lost = f"{self.name}: {current} has taken over this experiment; this process leaves it alone"
        if self.lost:
            raise LeaseLost(self.lost)

    def _write(self, lease: Lease) -> None:
        self.write({TAG: json.dumps(asdict(lease))})

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, name="katib-flow lease", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Release the lease, unless the store does not answer, or a KeyboardInterrupt must not wait for it."""
        self._over.set()
        if self.own is not None:
            _held.discard(self.own.owner)
        if self.lost or (kind is not None and issubclass(kind, TrackingError | KeyboardInterrupt)):
            return
        if self._writing.acquire(timeout=2):
            with contextlib.suppress(TrackingError):
                self.write({TAG: ""})
            self._writing.release()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with contextlib.suppress(TrackingError):  # the store does not answer, or ``lost`` names the new owner
                self.renew()


def workflow_lease(namespace: str, run: str, now: float) -> Lease:
    """The lease of an experiment's Workflows, the same in all of their pods and different in other namespaces."""
    where = f"{namespace}/{run}" if namespace else run
    return Lease(f"argo/{where}", "a cluster", f"Workflow {where}", now, now)
