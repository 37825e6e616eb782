"""Run a program that reads a request and writes a reply, within limits of time and size."""

import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, ParamSpec, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from katib_flow.errors import KatibFlowError
from katib_flow.processes import die_with

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3
MOST_BYTES = 64 * 2**20  # in a reply
MOST_STDERR = 2_000  # characters of its standard error to show
DRAIN_SECONDS = 1.0  # for the rest of the output, if another process still writes to the pipe of an ended program
_LOOK_MS = 100  # how often a reader looks whether it should end


class MayPass(KatibFlowError):
    """A failure that may not occur again: for example, a program was killed or exceeded its timeout."""


def with_retries(ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call ``ask``, up to three times in all if it raises MayPass.

    Raises:
        KatibFlowError: the call failed for good, or MayPass each time.
    """
    attempts = Retrying(retry=retry_if_exception_type(MayPass), stop=stop_after_attempt(TRIES), reraise=True)
    try:
        return attempts(ask, *arguments, **named)
    except MayPass as error:
        raise KatibFlowError(f"{error}; tried {TRIES} times") from None


@dataclass
class _Reader:
    """Reads a stream to its end, or until ``over``; beyond ``most`` bytes it keeps the last, or calls ``too_long``."""

    stream: IO[bytes]
    most: int
    over: threading.Event
    too_long: Callable[[], None] | None = None
    content: bytearray = field(default_factory=bytearray)

    @property
    def full(self) -> bool:
        return self.too_long is not None and len(self.content) > self.most

    def __call__(self) -> None:
        readable = select.poll()
        readable.register(self.stream, select.POLLIN)
        while not self.full and not self.over.is_set():
            if readable.poll(_LOOK_MS):
                chunk = os.read(self.stream.fileno(), 65_536)
                if not chunk:
                    break
                self.content += chunk
                if self.too_long is None:
                    del self.content[: -self.most]
        if self.full and self.too_long:
            self.too_long()


def run(argv: Sequence[str], given: bytes, timeout_seconds: float, environment: Mapping[str, str]) -> bytes:
    """Run a program with ``given`` on its standard input, and return its standard output.

    Args:
        argv: the program and its arguments.
        environment: all of its environment variables.

    Raises:
        MayPass: the program was killed or exceeded the timeout; in this case its process group is killed.
        KatibFlowError: it cannot be started, ended with an exit code other than 0, or wrote more than 64 MiB.
    """
    try:
        with tempfile.TemporaryFile() as request:  # a pipe could fill up while nobody reads it
            request.write(given)
            request.seek(0)
            child = subprocess.Popen(
                list(argv), env=dict(environment), stdin=request, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, preexec_fn=partial(die_with, os.getpid()),
            )  # fmt: skip
    except (OSError, ValueError) as error:
        raise KatibFlowError(f"cannot be started: {error}") from None
    assert child.stdout is not None
    assert child.stderr is not None
    over, late = threading.Event(), False
    output = _Reader(child.stdout, MOST_BYTES, over, too_long=lambda: _kill(child))
    stderr = _Reader(child.stderr, 4 * MOST_STDERR, over)
    threads = [threading.Thread(target=reader, daemon=True) for reader in (output, stderr)]
    try:
        for thread in threads:
            thread.start()
        try:
            child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            late = True
    finally:
        _kill(child)  # and the processes that it started, unless they have left its group
        child.wait()
        until = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        over.set()
        for thread in threads:
            thread.join()
        child.stdout.close()
        child.stderr.close()
    if output.full:
        raise KatibFlowError(f"wrote more than {MOST_BYTES // 2**20} MiB to its standard output")
    check_ending(None if late else child.returncode, bytes(stderr.content), timeout_seconds)
    return bytes(output.content)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def check_ending(exit_code: int | None, stderr: bytes, timeout_seconds: float) -> None:
    """Check that a program ended with exit code 0.

    Args:
        exit_code: negative, or above 128 from a shell, if a signal ended it; None if it exceeded the timeout.
        stderr: the end of its standard error.

    Raises:
        MayPass: the program was killed or exceeded the timeout.
        KatibFlowError: it ended with another exit code.
    """
    text = stderr.decode(errors="replace").strip()[-MOST_STDERR:]
    last = f"; its standard error ends with: {text}" if text else ""
    if exit_code is None:
        raise MayPass(f"did not answer within algorithm.timeout ({timeout_seconds:g} s){last}")
    if exit_code < 0 or exit_code > 128:
        number = -exit_code if exit_code < 0 else exit_code - 128
        raise MayPass(f"was killed by {_name(number)}{last}")
    if exit_code:
        raise KatibFlowError(f"ended with exit code {exit_code}{last}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
