"""Ask a program in a sidecar container: both containers share a directory, and busybox runs the program in it.

busybox, serve.sh    the command of the program's container, written before it starts
asked-N, answer-N    the request, and the standard output of the program
said-N, code-N       the standard error of the program, and its exit code, which is written last
"""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from katib_flow.errors import KatibFlowError
from katib_flow.outside.process import MOST_BYTES, MOST_STDERR, MayPass, check_ending

VARIABLE = "KATIB_FLOW_ALGORITHM_DIRECTORY"
"""The environment variable with the directory, in a pod whose suggest step has such a sidecar."""
POLL_SECONDS = 0.1
START_SECONDS = 600.0  # for the sidecar to start: its image may still have to be pulled
MARGIN_SECONDS = 10.0
_SERVE = """\
# katib-flow: answers each request that appears, until this container is stopped.
d={directory} n=0
b="$d/busybox"
ulimit -f {blocks}
trap 'exit 0' TERM
: > "$d/ready"
while true; do
  if [ -f "$d/asked-$n" ]; then
    "$b" timeout -s KILL {seconds} {command} < "$d/asked-$n" > "$d/answer-$n" 2> "$d/said-$n"
    echo $? > "$d/code.part"; "$b" mv "$d/code.part" "$d/code-$n"
    n=$((n + 1))
  fi
  "$b" sleep 0.1
done
"""
_KILLED = 137  # the exit code of busybox's timeout, and of a process killed for its memory


def script(directory: Path, command: Sequence[str], timeout_seconds: float) -> str:
    """The script that ``busybox sh`` runs in the program's container; the words of the command are quoted."""
    return _SERVE.format(
        directory=shlex.quote(str(directory)),
        command=shlex.join(command),
        seconds=max(1, round(timeout_seconds)),
        blocks=2 * MOST_BYTES // 512,
    )


def ask(directory: Path, given: bytes, timeout_seconds: float) -> bytes:
    """Send a request to the program, and return its reply of at most 64 MiB.

    Raises:
        MayPass: the container has not started, or the program was killed or exceeded the timeout.
        KatibFlowError: the program ended with an exit code other than 0, or its reply is too long.
    """
    _wait_for(directory / "ready", START_SECONDS, "algorithm.container has not started")
    number = sum(1 for _ in directory.glob("asked-*"))
    part = directory / "asked.part"
    part.write_bytes(given)
    part.rename(directory / f"asked-{number}")
    begun, code = time.monotonic(), directory / f"code-{number}"
    _wait_for(code, timeout_seconds + MARGIN_SECONDS, "its container did not answer")
    stderr, answer = directory / f"said-{number}", directory / f"answer-{number}"
    with stderr.open("rb") as file:
        file.seek(max(0, stderr.stat().st_size - 4 * MOST_STDERR))
        last = file.read()
    exit_code, late = int(code.read_text()), time.monotonic() - begun >= timeout_seconds
    shell_message = b"Killed\n" if exit_code == _KILLED else b""
    check_ending(
        None if exit_code == _KILLED and late else exit_code, last.removesuffix(shell_message), timeout_seconds
    )
    if answer.stat().st_size > MOST_BYTES:
        raise KatibFlowError(f"wrote more than {MOST_BYTES // 2**20} MiB to its standard output")
    return answer.read_bytes()


def _wait_for(path: Path, seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > until:
            raise MayPass(f"{otherwise} within {seconds:g} s")
        time.sleep(POLL_SECONDS)
