"""The log file of a trial, of bounded size."""

from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from katib_flow.wording import counted

HEAD_BYTES = 4 << 20
TAIL_BYTES = 4 << 20


class BoundedLog:
    """A file with the first and the last 4 MiB of an output; a line between them says how much was left out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._room = HEAD_BYTES
        self._tail: deque[bytes] = deque()
        self._tail_bytes = self._left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._left_out:
            self._file.write(f"\n[katib-flow: {counted(self._left_out, 'byte')} left out here]\n".encode())
        self._file.writelines(self._tail)
        self._file.close()

    def write(self, data: bytes) -> None:
        """Add output."""
        if self._room:
            self._file.write(data[: self._room])
            self._file.flush()
            data, self._room = data[self._room :], max(0, self._room - len(data))
        if data:
            self._tail.append(data)
            self._tail_bytes += len(data)
        while self._tail_bytes > TAIL_BYTES:
            dropped = self._tail.popleft()
            self._tail_bytes -= len(dropped)
            self._left_out += len(dropped)
