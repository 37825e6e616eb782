"""The processes of a trial, ended as a whole: none may be left beside the next try in the same directory.

A trial leads a session of its own. While it runs, its directory names it, so that what is left when its worker was
killed can be found: the session, and whatever has left it with the environment of the trial.
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
END_SECONDS = 5.0  # for processes to go that were killed; one that waits for a disk may take longer


def note(directory: TrialDirectory, pid: int) -> None:
    """Keep which session runs a trial, in its directory."""
    (directory.path / NAME).write_text(json.dumps({"pid": pid, "born": born(pid), "boot": boot()}))


def forget(directory: TrialDirectory) -> None:
    """Drop what ``note`` kept: the trial has ended, and what it left in its group was killed."""
    (directory.path / NAME).unlink(missing_ok=True)


def end_left_over(directory: TrialDirectory) -> int:
    """Kill what is left of a trial that nobody runs any more, and wait until it is gone.

    Returns:
        How many processes there were.
    """
    try:
        content = json.loads((directory.path / NAME).read_text())
        leader, began, begun_in = int(content["pid"]), content["born"], content["boot"]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):  # a trial may write there too
        return 0
    killed: set[int] = set()
    until = time.monotonic() + END_SECONDS
    while begun_in == boot() and (left := set(_of(leader, began, directory.trial_file))):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    forget(directory)
    return len(killed)


def _of(leader: int, began: int | None, trial_file: Path) -> Iterator[int]:
    """Processes of a session, and of others that were started with the trial file of this one."""
    stranger = born(leader) not in (None, began)  # the number was given to another: no session of ours has it then
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
    except OSError:  # it is gone, or another user's
        return False
