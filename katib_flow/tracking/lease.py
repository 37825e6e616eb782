"""Who runs an experiment: a tag of its run that the owner renews, so that no two run it at once, wherever they are.

MLflow has no lock and no compare-and-swap. So whoever begins writes the tag and reads it again before the first trial
starts; of two that begin at once, the one whose tag was overwritten gives up, at once or when it renews. A process that
is gone is known on its own machine. Elsewhere its lease is watched: clocks differ, but a lease that is renewed changes.
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
WATCH_SECONDS = 30.0  # for which a lease that looks stale must not change

_held: set[str] = set()  # owners in this process


class Held(KatibFlowError):
    """Somebody else runs the experiment."""


class LeaseLost(TrackingError):
    """Somebody else has taken over: this process must leave the experiment alone."""


@dataclass(frozen=True)
class Lease:
    """Who runs an experiment.

    Attributes:
        owner: unlike any other.
        host, what: where it runs, and what it is there, for a person.
        since, beat: when it began and when it was last renewed, in seconds since the epoch, by the owner's clock.
        machine: where its process can be looked up; "" for a Workflow, which is more than one process.
        pid, born: its process, which is another where the number was given out anew.
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
        """That of this process."""
        pid = os.getpid()
        host = socket.gethostname()
        return cls(uuid.uuid4().hex, host, f"process {pid}", now, now, _machine(), pid, born(pid) or 0)

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> "Lease | None":
        """The lease among the tags of a run; None where there is none, or somebody wrote something else there."""
        try:
            data: dict[str, Any] = from_json(tags.get(TAG) or "null")
            owner, host, what, machine = (str(data[name])[:200] for name in ("owner", "host", "what", "machine"))
            since, beat = float(data["since"]), float(data["beat"])
            return cls(owner, host, what, since, beat, machine, int(data["pid"]), int(data["born"]))
        except (ValueError, TypeError, KeyError, OverflowError):
            return None

    def gone(self) -> bool | None:
        """Whether its process is gone; None where that cannot be seen from here."""
        if not self.machine or self.machine != _machine():
            return None
        if self.pid == os.getpid():
            return self.owner not in _held
        return born(self.pid) != self.born

    def stale(self, now: float) -> bool:
        """Whether it is long since it was renewed, as far as the two clocks agree."""
        return abs(now - self.beat) > STALE_SECONDS

    def abandoned(self, now: float) -> bool:
        """Whether nobody runs the experiment any more. A Workflow may wait for a machine for any time."""
        return bool(self.machine) and (self.stale(now) if (gone := self.gone()) is None else gone)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).astimezone().isoformat(sep=" ", timespec="seconds")
        return f"{self.what} on {self.host} since {since}"


def _machine() -> str:
    """A name of this boot of this machine, and of the container in it; "" where processes cannot be looked up."""
    with contextlib.suppress(OSError):
        if name := boot():
            return f"{name}/{(PROC / 'self/ns/pid').readlink()}"
    return ""


@dataclass
class Holding:
    """The lease of an experiment in the hands of this process.

    Attributes:
        read, write: the tags of the experiment's run.
        name: the experiment's.
        lost: who has taken over; "" while nobody has.
        clock, sleep, say: as ``time.time``, ``time.sleep``, and what there is to tell a person.
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
        """Become the owner, or show that it is there.

        Raises:
            Held: somebody else is the owner.
            TrackingError: the store does not answer.
        """
        own = self.own or Lease.own(self.clock())
        lease = Lease.read(self.read())
        if lease is not None and lease.owner != own.owner:
            self._wait_until_it_is_nobodys(lease)
        elif lease is not None:
            own = replace(own, since=lease.since)
        _held.add(own.owner)
        self.own = own
        if lease is None or lease.owner != own.owner or own.beat - lease.beat >= BEAT_SECONDS:
            self._write(own)
        return self

    def _wait_until_it_is_nobodys(self, lease: Lease) -> None:
        if (gone := lease.gone()) is False or (gone is None and not lease.stale(self.clock())):
            raise Held(self._refusal(lease))
        if gone is None:
            self.say(
                f"{self.name}: {lease} was not heard of for long; watching for {WATCH_SECONDS:.0f} s whether it is"
            )
            self.sleep(WATCH_SECONDS)
            now = Lease.read(self.read())
            if now is not None and now != lease:
                raise Held(self._refusal(now))
        self.say(f"{self.name}: taken over from {lease}, which is gone")

    def _refusal(self, lease: Lease) -> str:
        seen = max(0.0, self.clock() - lease.beat)
        return (
            f"{self.name}: another process is running this experiment: {lease}, last heard of {seen:.0f} s ago; stop "
            f"it first (katib-flow stop {self.name}); one that is gone can be taken over after {STALE_SECONDS:.0f} s"
        )

    def renew(self) -> None:
        """Show that the owner is there.

        Raises:
            LeaseLost: somebody else has taken over.
        """
        with self._writing:
            if self._over.is_set() or self.own is None:
                return
            self.confirm()
            self.own = replace(self.own, beat=self.clock())
            self._write(self.own)

    def confirm(self) -> None:
        """Make sure that nobody else has taken over.

        Raises:
            LeaseLost: somebody has.
        """
        assert self.own is not None
        there = Lease.read(self.read())
        if there is not None and there.owner != self.own.owner:
            self.lost = f"{self.name}: {there} has taken over this experiment, and it is left to it"
        if self.lost:
            raise LeaseLost(self.lost)

    def _write(self, lease: Lease) -> None:
        self.write({TAG: json.dumps(asdict(lease))})

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, name="katib-flow lease", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give it back, unless the store is away, or whoever interrupts waits for nothing more."""
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
            with contextlib.suppress(TrackingError):  # it is away, or ``lost`` says who is the owner now
                self.renew()


def workflow_lease(namespace: str, run: str, now: float) -> Lease:
    """That of the Workflows of an experiment, which is the same in all of their pods, and in no other namespace."""
    where = f"{namespace}/{run}" if namespace else run
    return Lease(f"argo/{where}", "a cluster", f"Workflow {where}", now, now)
