"""The learnt state of an algorithm, as artifacts of the parent run: a cache, which is learnt again if it is lost.

Each state is an artifact of its own, named by the number of its lessons, their digest, and the SHA-256 of its content.
So concurrent writers never overwrite different content, and damage shows in the name. Earlier states are deleted once
there is a later one, except the last of them, for a process that has just read a slightly shorter history.
"""

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from katib_flow.errors import KatibFlowError
from katib_flow.history import Learnt
from katib_flow.tracking.artifacts import Artifacts
from katib_flow.tracking.records import Record

FOLDER = "katib_flow/learnt"
_NAME = re.compile(r"(\d{8,15})-([0-9a-f]{64})-([0-9a-f]{64})")


class Learnings:
    """Writes and finds the learnt states of algorithms. Faults of the store are not errors: they only cost time."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def find(self, record: Record) -> Iterator[Learnt]:
        """The stored states, that with the most lessons first, read lazily.

        Damaged states are skipped, with a note on stderr.
        """
        for entry in reversed(self._entries(record)):
            content = b""
            with suppress(KatibFlowError, OSError):  # it may have been deleted since, because there is a later one
                content = self._artifacts.get(record.artifact_uri, entry.path, patience_seconds=0).read_bytes()
            if hashlib.sha256(content).hexdigest() == entry.content:
                yield Learnt(entry.lessons, entry.digest, content)
            elif content:
                _note(entry.path, "damaged (its SHA-256 differs from that in its name); its content is learnt again")

    def keep(self, record: Record, learnt: Learnt | None) -> None:
        """Store a new state, then delete the outdated ones; None does nothing."""
        if learnt is None:
            return
        entry = _Entry(learnt.lessons, learnt.digest, hashlib.sha256(learnt.content).hexdigest())
        try:
            with tempfile.TemporaryDirectory(prefix="katib-flow-") as scratch:
                file = Path(scratch) / PurePosixPath(entry.path).name
                file.write_bytes(learnt.content)
                self._artifacts.write(record.artifact_uri, entry.path, file, patience_seconds=0)
        except (KatibFlowError, OSError) as error:
            _note(FOLDER, f"the learnt state could not be stored, and is learnt again when needed: {error}")
            return
        for other in outdated(self._entries(record), entry):
            with suppress(KatibFlowError, OSError):
                self._artifacts.delete(record.artifact_uri, other.path)

    def _entries(self, record: Record) -> "list[_Entry]":
        """The stored states, that with the fewest lessons first."""
        with suppress(KatibFlowError, OSError):
            names = self._artifacts.names(record.artifact_uri, FOLDER, patience_seconds=0)
            parts = (_NAME.fullmatch(PurePosixPath(name).name) for name in names)
            return sorted(_Entry(int(match[1]), match[2], match[3]) for match in parts if match)
        return []


class _Entry(NamedTuple):
    """The parts of an artifact's name."""

    lessons: int
    digest: str
    content: str

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.lessons:08d}-{self.digest}-{self.content}"


def outdated(entries: "list[_Entry]", newest: "_Entry") -> "list[_Entry]":
    """The entries that nobody needs any more once ``newest`` is stored.

    The last entry before it stays, and so do those after it, from a process that has learnt more. Of two entries with
    the same number of lessons, every writer deletes the same one, so that one is left.

    Args:
        entries: in ascending order.
    """
    same = [entry for entry in entries if entry.lessons == newest.lessons and entry > newest]
    before = [entry for entry in entries if entry.lessons < newest.lessons]
    return [*before[:-1], *same]


def _note(what: str, text: str) -> None:
    print(f"note: {what}: {text}", file=sys.stderr, flush=True)
