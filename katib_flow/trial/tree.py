"""Ends all processes of a trial, so that none is left when the next attempt starts in the same directory.

A trial leads a session of its own. While it runs, a file in its directory names the session, so that processes which
outlived their worker can be found: those in the session, and those that have left it with the trial's environment.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from katib_flow.processes import PROC, boot, born, status
from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory

NAME = "process.json"
END_SECONDS = 5.0  # the wait for killed processes to end; one that waits for a disk may take longer


def note(directory: TrialDirectory, pid: int) -> None:
    """Write the session of a trial to a file in its directory."""
    (directory.path / NAME).write_text(json.dumps({"pid": pid, "born": born(pid), "boot": boot()}))


def forget(directory: TrialDirectory) -> None:
    """Delete the file of ``note``, once the trial has ended and the rest of its group was killed."""
    (directory.path / NAME).unlink(missing_ok=True)


def end_left_over(directory: TrialDirectory) -> int:
    """Kill the remaining processes of a trial that nobody runs any more, and wait until they have ended.

    Returns:
        The number of killed processes.
    """
    try:
        content = json.loads((directory.path / NAME).read_text())
        leader, began, begun_in = int(content["pid"]), content["born"], content["boot"]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):  # a trial may write there too
        return 0
    killed: set[int] = set()
    until = time.monotonic() + END_SECONDS
    while begun_in == boot() and (left := set(_processes(leader, began, directory.trial_file))):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    forget(directory)
    return len(killed)


def _processes(leader: int, began: int | None, trial_file: Path) -> Iterator[int]:
    """The processes of a session, and others with the same trial file in their environment."""
    stranger = born(leader) not in (None, began)  # the id belongs to another process now, so our session has ended
    for entry in os.scandir(PROC) if PROC.is_dir() else ():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        fields = status(int(entry.name))
        if fields is None:
            continue
        if (not stranger and int(fields[3]) == leader) or _started_with(entry.name, trial_file):
            yield int(entry.name)


def _started_with(pid: str, trial_file: Path) -> bool:
    try:
        return f"{TRIAL_FILE}={trial_file}".encode() in (PROC / pid / "environ").read_bytes().split(b"\0")
    except OSError:  # the process has ended, or belongs to another user
        return False
