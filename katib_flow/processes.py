"""Processes of this machine, read from ``/proc``; without it, every function returns that it knows nothing."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_LIBC: ctypes.CDLL | None = (
    ctypes.CDLL(None) if sys.platform == "linux" else None
)  # loaded here, because a forked child should do little


def boot() -> str:
    """An id of this boot of the machine; "" if unknown."""
    with suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def status(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the state on: state, parent, group, session ...

    Returns:
        None if the process does not exist, or is a zombie.
    """
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if not fields or fields[0] in "ZX" else fields


def born(pid: int) -> int | None:
    """The start of a process in clock ticks since the boot, which distinguishes processes with the same pid.

    Returns:
        None if the process does not exist, or is a zombie.
    """
    fields = status(pid)
    return None if fields is None else int(fields[19])


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Make the kernel signal this process when its parent dies (Linux only; elsewhere the parent must do it).

    Args:
        parent: pid of the parent, which may already be dead.
        number: the signal.
    """
    if _LIBC is not None:
        set_parent_death_signal = 1
        _LIBC.prctl(set_parent_death_signal, number)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)
