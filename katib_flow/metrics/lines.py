"""Bytes as they come -> whole lines; a file that grows -> what is new in it."""

from dataclasses import dataclass, field
from pathlib import Path

LINE_BYTES = 1 << 20  # what is kept of one line


class LineSplitter:
    """Carriage returns (progress bars) end a line too; empty lines are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self.count = 0
        self.last = ""

    def split(self, data: bytes, *, end: bool = False) -> list[str]:
        *whole, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[:LINE_BYTES]
        lines = [line.decode("utf-8", "replace") for line in whole if line.strip()]
        if end and self._rest.strip():
            lines.append(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        self.count += len(lines)
        self.last = lines[-1] if lines else self.last
        return lines


@dataclass
class Tail:
    """A file that another program writes; it may not be there yet."""

    path: Path
    position: int = field(default=0, init=False)

    def read(self) -> bytes:
        """What was written since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                data = file.read()
        except OSError:
            return b""
        self.position += len(data)
        return data


class Lines:
    """The lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._tail, self._splitter = Tail(path), LineSplitter()

    def read(self, *, end: bool = False) -> list[str]:
        return self._splitter.split(self._tail.read(), end=end)
