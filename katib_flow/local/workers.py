"""The worker processes of the local scheduler, seen from the scheduler."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from katib_flow.errors import KatibFlowError
from katib_flow.local.worker import Done, Ready, Reported, Run, Start
from katib_flow.trial.outcome import StopTrial

# The worker finds modules where the scheduler does, whatever script, notebook or test started it.
_MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from katib_flow.local.worker import main; main()"

END_SECONDS = 5.0  # for a worker to end together with its trial


@dataclass
class Worker:
    """One worker process and the trial that it runs.

    Attributes:
        pidfd: a file descriptor that is readable once the process has ended; None if the system has no pidfds.
        running: its trial; None while it is idle.
        stopping: True once its trial was asked to stop.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    pidfd: int | None = None
    ready: bool = False
    running: Run | None = None
    stopping: bool = False

    def send(self, message: object) -> None:
        """Send a message; a lost worker is noticed by ``Workers.events``."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def hang_up(self) -> None:
        """Close the connection, upon which the worker ends its trial and itself."""
        self.connection.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def ended(self, until: float) -> int:
        """Wait for its end, kill it if it still lives at a monotonic time, and return its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(max(0.0, until - time.monotonic()))
        self.process.kill()  # a thread of the user's module keeps it alive, for example
        return self.process.wait()

    def stop(self, request: StopTrial) -> None:
        """Ask the running trial to stop, once."""
        if self.running and not self.stopping:
            self.stopping = True
            self.send(request)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
        return None


@dataclass(frozen=True)
class Lost:
    """A worker ended while it ran a trial."""

    exit_code: int | None


Event = tuple[Run, Reported | Done | Lost]


@dataclass
class Workers:
    """A pool of worker processes of constant size.

    Attributes:
        keep: file descriptors that every worker holds open while it lives.
        deaths: workers in a row that ended before they were ready.
    """

    start: Start
    size: int
    keep: Sequence[int] = ()
    members: list[Worker] = field(default_factory=list[Worker])
    deaths: int = 0

    def fill(self) -> None:
        """Start workers until the pool has its size."""
        while len(self.members) < self.size:
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-c", _MAIN, str(theirs.fileno()), json.dumps(sys.path), str(os.getpid())]
            command += map(str, self.keep)
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(), *self.keep), stdin=subprocess.DEVNULL)
            theirs.close()
            worker = Worker(process, Connection(ours.detach()), _pidfd(process.pid))
            worker.send(self.start)
            self.members.append(worker)

    def idle(self) -> list[Worker]:
        """The workers that are ready for a trial."""
        return [worker for worker in self.members if worker.ready and worker.running is None]

    def running(self) -> list[Worker]:
        """The workers that run a trial."""
        return [worker for worker in self.members if worker.running is not None]

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield the events of all workers, after waiting for the first one for at most ``timeout`` seconds.

        Raises:
            SpecError: no trial of this experiment can run.
            KatibFlowError: workers cannot be started.
        """
        by_source: dict[Any, Worker] = {worker.connection: worker for worker in self.members}
        by_source |= {worker.pidfd: worker for worker in self.members if worker.pidfd is not None}
        for worker in {id(by_source[source]): by_source[source] for source in wait(list(by_source), timeout)}.values():
            over = worker.process.poll() is not None  # checked before its last messages are read
            try:
                while worker.connection.poll():
                    yield from self._received(worker, worker.connection.recv())
            except (EOFError, OSError):
                over = True
            if over:
                yield from self._lost(worker)

    def _received(self, worker: Worker, message: object) -> Iterator[Event]:
        if isinstance(message, Ready):
            if message.problem:
                raise message.problem
            worker.ready, self.deaths = True, 0
        elif isinstance(message, Reported) and worker.running:
            yield worker.running, message
        elif isinstance(message, Done) and worker.running:
            run, worker.running, worker.stopping = worker.running, None, False
            yield run, message

    def _lost(self, worker: Worker) -> Iterator[Event]:
        self.members.remove(worker)
        worker.hang_up()
        exit_code = worker.ended(time.monotonic() + END_SECONDS)
        if worker.running:
            yield worker.running, Lost(exit_code)
        elif not worker.ready:
            self.deaths += 1
            if self.deaths > 3:
                raise KatibFlowError(
                    f"{self.deaths} worker processes in a row ended on start (exit code {exit_code}); see above"
                )

    def kill(self) -> None:
        """Terminate every worker together with its trial, without waiting; ``events`` reports them as lost."""
        for worker in self.members:
            worker.process.terminate()

    def close(self) -> None:
        """End every worker together with its trial, and wait for it."""
        for worker in self.members:
            worker.hang_up()
        until = time.monotonic() + END_SECONDS
        for worker in self.members:
            worker.ended(until)
        self.members.clear()


__all__ = ["Lost", "Worker", "Workers"]
