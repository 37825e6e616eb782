"""Run a program that is given bytes and gives bytes, within limits of time and size."""

import os
import signal
import subprocess
import threading
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
MOST_BYTES = 64 * 2**20  # of an answer
MOST_SAID = 2_000  # characters of what it says on its standard error that are shown


class MayPass(KatibFlowError):
    """What failed may succeed when it is tried again: a program was killed, say, or took too long."""


def asked_again(ask: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What a question comes to, which is asked again, twice, where what failed may pass.

    Raises:
        KatibFlowError: what failed cannot pass, or has not.
    """
    attempts = Retrying(retry=retry_if_exception_type(MayPass), stop=stop_after_attempt(TRIES), reraise=True)
    try:
        return attempts(ask, *arguments, **named)
    except MayPass as error:
        raise KatibFlowError(f"{error}; it was asked {TRIES} times") from None


@dataclass
class _Reader:
    """Reads a stream to its end; of what is longer than ``most`` bytes it keeps the end, or calls ``too_long``."""

    stream: IO[bytes]
    most: int
    too_long: Callable[[], None] | None = None
    content: bytearray = field(default_factory=bytearray)

    @property
    def full(self) -> bool:
        return self.too_long is not None and len(self.content) > self.most

    def __call__(self) -> None:
        with suppress(OSError, ValueError):  # it was closed, because the program was killed
            while not self.full and (chunk := os.read(self.stream.fileno(), 65_536)):
                self.content += chunk
                if self.too_long is None:
                    del self.content[: -self.most]
        if self.full and self.too_long:
            self.too_long()


def run(argv: Sequence[str], given: bytes, timeout_seconds: float, environment: Mapping[str, str]) -> bytes:
    """What a program writes to its standard output, given bytes on its standard input.

    Raises:
        MayPass: it was killed, or took longer than ``timeout_seconds``; it and what it has started are killed then.
        KatibFlowError: it cannot be started, ended with another exit code than 0, or wrote more than 64 MiB.
    """
    try:
        child = subprocess.Popen(
            list(argv), env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=partial(die_with, os.getpid()),
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise KatibFlowError(f"cannot be started: {error}") from None
    assert child.stdout is not None
    assert child.stderr is not None
    output = _Reader(child.stdout, MOST_BYTES, too_long=lambda: _kill(child))
    said = _Reader(child.stderr, 4 * MOST_SAID)
    threads = [threading.Thread(target=work, daemon=True) for work in (output, said, lambda: _write(child, given))]
    late = False
    try:
        for thread in threads:
            thread.start()
        try:
            child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            late = True
    finally:
        _kill(child)  # also what it has started
        child.wait()
        for thread in threads:
            thread.join()
        for stream in (child.stdin, child.stdout, child.stderr):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
    if output.full:
        raise KatibFlowError(f"wrote more than {MOST_BYTES // 2**20} MiB to its standard output")
    check_ending(None if late else child.returncode, bytes(said.content), timeout_seconds)
    return bytes(output.content)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _write(child: "subprocess.Popen[bytes]", given: bytes) -> None:
    assert child.stdin is not None
    with suppress(OSError, ValueError):  # it need not read all of it
        child.stdin.write(given)
        child.stdin.close()


def check_ending(exit_code: int | None, said: bytes, timeout_seconds: float) -> None:
    """Make sure that a program has ended well.

    Args:
        exit_code: negative, or above 128 from a shell, where a signal ended it; None where it took too long.
        said: the end of what it wrote to its standard error.

    Raises:
        MayPass: it was killed, or took too long.
        KatibFlowError: it failed.
    """
    text = said.decode(errors="replace").strip()[-MOST_SAID:]
    last = f"; it said: {text}" if text else ""
    if exit_code is None:
        raise MayPass(f"gave no answer within algorithm.timeout ({timeout_seconds:g} s){last}")
    if exit_code < 0 or exit_code > 128:
        number = -exit_code if exit_code < 0 else exit_code - 128
        raise MayPass(f"was ended by {_name(number)}{last}")
    if exit_code:
        raise KatibFlowError(f"ended with exit code {exit_code}{last}")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
