"""Processes of this machine, as ``/proc`` tells of them; where there is none, nothing is known."""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_LIBC: ctypes.CDLL | None = (
    ctypes.CDLL(None) if sys.platform == "linux" else None
)  # loaded here: a forked child should do little


def boot() -> str:
    """A name of this boot of this machine; "" where none is known."""
    with suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def status(pid: int) -> list[str] | None:
    """Of ``/proc/PID/stat``: state, parent, group, session ...; None where the process is gone or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if not fields or fields[0] in "ZX" else fields


def born(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where it is gone. Two of one number differ by it."""
    fields = status(pid)
    return None if fields is None else int(fields[19])


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent is gone (Linux; elsewhere the parent does it where it can).

    Args:
        parent: pid of the parent, which may be gone already.
    """
    if _LIBC is not None:
        set_parent_death_signal = 1
        _LIBC.prctl(set_parent_death_signal, number)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)
