"""What an algorithm has learnt, beside the history in the parent run: a copy and no more, learnt anew where it is gone.

Each is an artifact of its own, named by the number of its lessons, their digest, and the SHA-256 of its content. So
nothing is ever overwritten by something else, whoever writes at the same time, and what was damaged is told by its
name. Earlier ones are deleted when a later one is there; the last of them stays, for who has read a history just now
that is a little shorter.
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
    """Keeps and finds what algorithms have learnt. No fault of the store is an error: it only costs time."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def find(self, record: Record) -> Iterator[Learnt]:
        """What is kept, that of most lessons first; nothing is read before it is asked for.

        What is damaged is told, and left out.
        """
        for entry in reversed(self._entries(record)):
            content = b""
            with suppress(KatibFlowError, OSError):  # deleted meanwhile, because a later one is there
                content = self._artifacts.get(record.artifact_uri, entry.path, patience_seconds=0).read_bytes()
            if hashlib.sha256(content).hexdigest() == entry.content:
                yield Learnt(entry.lessons, entry.digest, content)
            elif content:
                _tell(entry.path, "it is damaged (its SHA-256 is not that of its name); what it held is learnt again")

    def keep(self, record: Record, learnt: Learnt | None) -> None:
        """Keep what is new, then delete what nobody will ask for again; nothing happens where nothing is new."""
        if learnt is None:
            return
        entry = _Entry(learnt.lessons, learnt.digest, hashlib.sha256(learnt.content).hexdigest())
        try:
            with tempfile.TemporaryDirectory(prefix="katib-flow-") as scratch:
                file = Path(scratch) / PurePosixPath(entry.path).name
                file.write_bytes(learnt.content)
                self._artifacts.put(record.artifact_uri, entry.path, file, patience_seconds=0)
        except (KatibFlowError, OSError) as error:
            _tell(FOLDER, f"what was learnt could not be kept, and is learnt again when it is needed: {error}")
            return
        for other in outdated(self._entries(record), entry):
            with suppress(KatibFlowError, OSError):
                self._artifacts.delete(record.artifact_uri, other.path)

    def _entries(self, record: Record) -> "list[_Entry]":
        """What is kept, that of fewest lessons first."""
        with suppress(KatibFlowError, OSError):
            names = self._artifacts.names(record.artifact_uri, FOLDER, patience_seconds=0)
            parts = (_NAME.fullmatch(PurePosixPath(name).name) for name in names)
            return sorted(_Entry(int(found[1]), found[2], found[3]) for found in parts if found)
        return []


class _Entry(NamedTuple):
    """What the name of an artifact says."""

    lessons: int
    digest: str
    content: str

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.lessons:08d}-{self.digest}-{self.content}"


def outdated(entries: "list[_Entry]", newest: "_Entry") -> "list[_Entry]":
    """Those that nobody will ask for, now that the newest is there, of entries in order.

    The last one before it stays, and all that come after it: another process has learnt more. Of two with as many
    lessons each writer deletes the same one, so that one is left.
    """
    same = [entry for entry in entries if entry.lessons == newest.lessons and entry > newest]
    before = [entry for entry in entries if entry.lessons < newest.lessons]
    return [*before[:-1], *same]


def _tell(what: str, text: str) -> None:
    print(f"note: {what}: {text}", file=sys.stderr, flush=True)
