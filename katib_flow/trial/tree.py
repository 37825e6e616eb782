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

from katib_flow.trial.protocol import TRIAL_FILE, TrialDirectory

NAME = "process.json"
END_SECONDS = 5.0  # for processes to go that were killed; one that waits for a disk may take longer
_PROC = Path("/proc")


def note(directory: TrialDirectory, pid: int) -> None:
    """Keep which session runs a trial, in its directory."""
    (directory.path / NAME).write_text(json.dumps({"pid": pid, "born": _born(pid), "boot": _boot()}))


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
        leader, born, boot = int(content["pid"]), content["born"], content["boot"]
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    killed: set[int] = set()
    until = time.monotonic() + END_SECONDS
    while boot == _boot() and (left := set(_of(leader, born, directory.trial_file))):
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    forget(directory)
    return len(killed)


def _of(leader: int, born: int | None, trial_file: Path) -> Iterator[int]:
    """Processes of a session, and of others that were started with the trial file of this one."""
    stranger = _born(leader) not in (None, born)  # the number was given to another: no session of ours has it then
    for entry in os.scandir(_PROC) if _PROC.is_dir() else ():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        fields = _fields(int(entry.name))
        if fields is None or fields[0] in "ZX":
            continue
        if (not stranger and int(fields[3]) == leader) or _started_with(entry.name, trial_file):
            yield int(entry.name)


def _started_with(pid: str, trial_file: Path) -> bool:
    try:
        return f"{TRIAL_FILE}={trial_file}".encode() in (_PROC / pid / "environ").read_bytes().split(b"\0")
    except OSError:  # it is gone, or another user's
        return False


def _fields(pid: int) -> list[str] | None:
    """Of ``/proc/PID/stat``: state, parent, group, session ...; None where there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _born(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where it is gone."""
    fields = _fields(pid)
    return None if fields is None else int(fields[19])


def _boot() -> str:
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""
