"""Bytes as they come -> whole lines of plain text; a file that grows -> what is new in it."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LINE_BYTES = 1 << 20  # a longer line is read in parts; a longer word is not read
PORTION_BYTES = 1 << 22  # of a file, so that a large one takes little memory

# What a terminal obeys and does not show (ECMA-48), and the byte order mark that some editors begin a file with.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_TEXTS = re.compile(r"\x1b[\]PX^_][^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)")  # titles, hyperlinks
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+([@-~])?")
_SHORT = re.compile(r"\x1b[ -/]*+([0-~])?")
_ELSEWHERE = "ABDEFGHJSTZ`adefsu"  # the cursor goes to another place, or the screen is cleared: what was there ends


def plain_lines(line: str) -> list[str]:
    """A line without what only a terminal obeys; several where the cursor goes elsewhere, as a bar's does."""
    if not _OBEYED.search(line):
        return [line]
    line = _TEXTS.sub("", line)
    line = _SEQUENCE.sub(
        lambda found: "\n" if (found[1] or "-") in _ELSEWHERE else " " if found[1] == "C" else "", line
    )
    line = _SHORT.sub(lambda found: "\n" if (found[1] or "=") in "DEM78c" else "", line)
    line = re.sub(r"[\x08\x0b\x0c\r\x84\x85\x8d]+", "\n", line)
    return _OBEYED.sub("", line).split("\n")


class LineSplitter:
    """Carriage returns (progress bars) end a line too; empty lines are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self.count = 0
        self.last = ""

    def split(self, data: bytes, *, end: bool = False) -> list[str]:
        *whole, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LINE_BYTES:  # cut between words: no number may lose its end, no name its beginning
            kept, _, rest = rest.rpartition(b" ")
            whole.append(kept)
        self._rest = rest if len(rest) <= LINE_BYTES else b"_"
        if end and self._rest:
            whole.append(self._rest)
            self._rest = b""
        lines = [line for text in whole for line in plain_lines(text.decode("utf-8", "replace")) if line.strip()]
        self.count += len(lines)
        self.last = lines[-1] if lines else self.last
        return lines


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a named pipe would wait for who writes to it


@dataclass
class Tail:
    """A file that another program writes; it may not be there yet."""

    path: Path
    position: int = field(default=0, init=False)

    def portions(self) -> Iterator[bytes]:
        """What was written between the last call and this one, a portion at a time.

        There is nothing in what is not a regular file: a named pipe or a device may never end.
        """
        until = None
        while until is None or self.position < until:
            try:
                with open(self.path, "rb", opener=_at_once) as file:
                    status = os.fstat(file.fileno())
                    if not stat.S_ISREG(status.st_mode):
                        return
                    until = status.st_size if until is None else until
                    file.seek(self.position)
                    data = file.read(min(PORTION_BYTES, max(until - self.position, 0)))
            except OSError:
                return
            if not data:
                return
            self.position += len(data)
            yield data


class Lines:
    """The lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._tail, self._splitter = Tail(path), LineSplitter()

    def read(self, *, end: bool = False) -> Iterator[str]:
        """The lines that are new; with ``end``, the last one too where no line break follows it."""
        for portion in self._tail.portions():
            yield from self._splitter.split(portion)
        if end:
            yield from self._splitter.split(b"", end=True)
