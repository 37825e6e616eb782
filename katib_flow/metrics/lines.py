"""Splits bytes, as they arrive, into complete lines of plain text, and reads what is new in a growing file."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LINE_BYTES = 1 << 20  # a longer line is read in parts; a longer word is skipped
PORTION_BYTES = 1 << 22  # read at a time, so that a large file takes little memory

# Control characters of terminals (ECMA-48), and the byte order mark with which some editors begin a file.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_TEXTS = re.compile(r"\x1b[\]PX^_][^\x07\x1b\x9c]*+(?:\x07|\x1b\\|\x9c)")  # titles, hyperlinks
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+([@-~])?")
_SHORT = re.compile(r"\x1b[ -/]*+([0-~])?")
_ELSEWHERE = "ABDEFGHJSTZ`adefsu"  # these move the cursor or clear the screen, which ends the text before


def plain_lines(line: str) -> list[str]:
    """A line without control sequences; several lines if it moves the cursor, as progress bars do."""
    if not _OBEYED.search(line):
        return [line]
    line = _TEXTS.sub("", line)
    line = _SEQUENCE.sub(
        lambda match: "\n" if (match[1] or "-") in _ELSEWHERE else " " if match[1] == "C" else "", line
    )
    line = _SHORT.sub(lambda match: "\n" if (match[1] or "=") in "DEM78c" else "", line)
    line = re.sub(r"[\x08\x0b\x0c\r\x84\x85\x8d]+", "\n", line)
    return _OBEYED.sub("", line).split("\n")


class LineSplitter:
    """Splits bytes into lines. Carriage returns (progress bars) end a line too; empty lines are skipped.

    Attributes:
        count: the number of lines so far.
        last: the last line so far.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.count = 0
        self.last = ""

    def split(self, data: bytes, *, end: bool = False) -> list[str]:
        """The lines that ``data`` completes; with ``end``, the last line too, without a line break."""
        *whole, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(rest) > LINE_BYTES:  # cut between words, so that numbers and names stay complete
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
    return os.open(path, flags | os.O_NONBLOCK)  # otherwise opening a named pipe would wait for a writer


@dataclass
class Tail:
    """A file that another program writes to, and that may not exist yet."""

    path: Path
    position: int = field(default=0, init=False)

    def portions(self) -> Iterator[bytes]:
        """What was written since the last call, in portions of at most ``PORTION_BYTES``.

        Nothing is read from named pipes and devices, which may never end.
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
    """The lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self._tail, self._splitter = Tail(path), LineSplitter()

    def read(self, *, end: bool = False) -> Iterator[str]:
        """The new lines; with ``end``, the last one too, if it has no line break."""
        for portion in self._tail.portions():
            yield from self._splitter.split(portion)
        if end:
            yield from self._splitter.split(b"", end=True)
