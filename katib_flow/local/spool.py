"""The files of an experiment on this machine: what a trial needs while it runs, and its result until MLflow has it.

A trial's result is written to disk before the scheduler hears of it, so a scheduler that is killed at any moment loses
no finished trial: ``resume`` finds here the results that had not reached MLflow. A lease in the store keeps two
schedulers from running one experiment. The lock in this directory is held by the workers too, so that a new scheduler
starts only when the last worker of the old one is gone.
"""

import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from katib_flow.errors import KatibFlowError
from katib_flow.history import Suggestion
from katib_flow.trial.protocol import TrialDirectory

LOCK_PATIENCE_SECONDS = 15.0
DIRECTORY = ".katib_flow"
BASE = "base"
SUGGESTION = "suggestion.json"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


class Spool:
    """The directory ``.katib_flow/<key>/`` in the current one; the experiment's record holds the key.

    Raises:
        KatibFlowError: the key is not a plain file name, or the directory cannot be written.
    """

    def __init__(self, key: str, base: Path | None = None) -> None:
        if not _PLAIN.fullmatch(key):  # it comes from the store, which others may write
            raise KatibFlowError(f"katib_flow.key: found {key!r} in the store, need letters, digits, '.', '_' and '-'")
        self.key = key
        self.path = (base or Path.cwd()) / DIRECTORY / key
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.lock_fd = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise KatibFlowError(
                f"{self.path}: cannot be written: {error.strerror}; run in a directory that you can write to"
            ) from None

    @classmethod
    def new(cls) -> "Spool":
        """The spool of a new experiment."""
        return cls(cls.new_key())

    @staticmethod
    def new_key() -> str:
        """The key of a new experiment: 16 hexadecimal digits."""
        return uuid.uuid4().hex[:16]

    @staticmethod
    def names(key: str) -> bool:
        """True if a key was made by ``new_key``: the experiment ran on a machine, not on a cluster."""
        return re.fullmatch(r"[0-9a-f]{16}", key) is not None

    def lock(self) -> None:
        """Hold the experiment until ``close``.

        Raises:
            KatibFlowError: another process still holds it after some seconds.
        """
        until = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not self._try_lock():
            if time.monotonic() > until:
                raise KatibFlowError(
                    f"{self.path}: found processes of an earlier run that still use it; end them and try again"
                )
            time.sleep(0.05)  # the workers of a killed scheduler need a moment to end

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Release the lock."""
        os.close(self.lock_fd)

    def keep_base(self, base: Path | None) -> None:
        """Store the directory of the spec's file, which ``resume`` would not know."""
        if base is not None:
            self.keep(BASE, os.fsencode(base))

    def base(self) -> Path | None:
        """The directory that ``keep_base`` has stored, if any."""
        content = self.kept(BASE)
        return None if content is None else Path(os.fsdecode(content))

    def keep(self, name: str, content: bytes) -> None:
        """Store a file that ``resume`` will run."""
        file_fd = os.open(self.path / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file_fd, "wb") as file:
            file.write(content)

    def kept(self, name: str) -> bytes | None:
        """The content that ``keep`` has stored; None if there is no such file.

        Raises:
            KatibFlowError: it cannot be read, or another user could have written it.
        """
        try:
            file_fd = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KatibFlowError(f"{self.path / name}: cannot be read: {error.strerror}") from None
        with os.fdopen(file_fd, "rb") as file:
            for path, status in ((self.path, self.path.lstat()), (self.path / name, os.fstat(file_fd))):
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    need = "a path that only you can write, because its content is executed"
                    raise KatibFlowError(
                        f"{path}: found owner {status.st_uid}, mode {status.st_mode & 0o777:o}, need {need}"
                    )
            return file.read()

    def directory(self, suggestion: Suggestion, parent: Suggestion | None = None) -> TrialDirectory:
        """The directory of a trial, which knows that of its parent."""
        return TrialDirectory(self.path / suggestion.id, self.path / parent.id if parent else None)

    def add(self, suggestion: Suggestion) -> None:
        """Write a suggestion to disk, before its trial starts.

        Raises:
            OSError: it cannot be written, for lack of space for example; the trial must not start.
        """
        directory = self.directory(suggestion).path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / SUGGESTION).write_text(json.dumps(suggestion.to_dict()))

    def suggestions(self) -> Iterator[Suggestion]:
        """Every suggestion whose trial is not yet known to be recorded."""
        for path in self.path.glob("*/"):
            with suppress(OSError):  # a directory that is not empty stays
                path.rmdir()
        for path in sorted(self.path.glob(f"*/{SUGGESTION}")):
            try:
                yield Suggestion.from_dict(json.loads(path.read_text()))
            except (AttributeError, KeyError, TypeError, ValueError):
                # the scheduler was killed while it wrote this file: the trial had not started
                shutil.rmtree(path.parent, ignore_errors=True)

    def drop(self, suggestion: Suggestion) -> None:
        """Delete all files of a trial."""
        _remove(self.directory(suggestion).path)

    def remove(self, suggestion: Suggestion) -> None:
        """Delete the files of a recorded trial; its checkpoint and model stay, for trials that continue from them."""
        directory = self.directory(suggestion)
        kept = directory.model.is_dir() or any(_entries(directory.checkpoint))
        for entry in () if kept else _entries(directory.path):
            if entry.name != SUGGESTION:
                _remove(entry)
        with suppress(OSError):  # last, so that resume finds a removal that was cut short
            (directory.path / SUGGESTION).unlink(missing_ok=True)
            if not kept:
                directory.path.rmdir()


def _entries(directory: Path) -> list[Path]:
    """The entries of a directory; empty if it does not exist."""

    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)
