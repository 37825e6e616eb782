"""Reads metrics from TensorBoard's event files: the scalars in a log directory, live, and without TensorFlow.

An event file is a sequence of TFRecords (length, checksum, data, checksum), each a protocol buffer ``Event`` with a
wall time, a step and a summary of tagged values. A metric is named by its tag, optionally after the directory of its
file: ``accuracy``, or ``test/accuracy`` for the tag ``accuracy`` in ``<path>/test/`` (Katib's rule).
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from katib_flow.foreign import END_OF_TIME
from katib_flow.history import Metric
from katib_flow.metrics.hints import instead
from katib_flow.metrics.lines import Tail
from katib_flow.metrics.text import now_ms

_LARGEST_RECORD = 64 << 20  # a larger record means that the file is damaged
_MOST_TAGS = 1000  # tags to remember for hints
_HEADER, _FOOTER = 12, 4
_FLOATS = {1: "f", 2: "d"}  # DataType -> struct format; scalar summaries are written as one of these
_LARGEST_STEP = 2**63 - 1


class EventFiles:
    """The scalars in a log directory or one event file.

    Args:
        names: the metrics to take.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self._path, self._names = path, names
        self._files: dict[Path, _EventFile] = {}
        self._tags: set[str] = set()

    def absence(self, name: str) -> str:
        """Why a metric has no value, for people."""
        if not self._files:
            return f"there are no event files in {self._path}"
        return instead(name, self._tags, "the event files have") or "the event files have no scalars"

    def read(self, *, end: bool = False) -> list[Metric]:
        """The metrics that were written since the last call, file by file."""
        metrics: list[Metric] = []
        for path in self._paths():
            file = self._files.setdefault(path, _EventFile(path))
            for tag, value, step, seconds in file.read():
                if len(self._tags) < _MOST_TAGS:
                    self._tags.add(tag)
                name = self._named(tag, path)
                if name is not None:
                    known = 0 <= seconds < END_OF_TIME  # False for NaN
                    metrics.append(Metric(name, value, step, int(seconds * 1000) if known else now_ms()))
        return metrics

    def _paths(self) -> list[Path]:
        return [self._path] if self._path.is_file() else sorted(self._path.rglob("*tfevents*"))

    def _named(self, tag: str, path: Path) -> str | None:
        """The wanted metric that a tag stands for, if any."""
        folders = path.parent.parts
        longer = ("/".join((*folders[-depth:], tag)) for depth in range(1, len(folders)))
        return next((name for name in (tag, *longer) if name in self._names), None)


class _EventFile:
    def __init__(self, path: Path) -> None:
        self._tail, self._rest = Tail(path), b""
        self._broken = False

    def read(self) -> Iterator[tuple[str, float, int, float]]:
        """Tag, value, step and wall time of the new scalars; an incomplete record waits for its rest."""
        for portion in self._tail.portions():
            self._rest += portion
            for record in self._records():
                try:
                    yield from _scalars(record)
                except (ValueError, struct.error, IndexError):
                    self._broken = True

    def _records(self) -> Iterator[bytes]:
        """The complete records; a damaged file yields no more of them."""
        begin = 0
        while len(self._rest) - begin >= _HEADER and not self._broken:
            (length,) = struct.unpack_from("<Q", self._rest, begin)
            self._broken = length > _LARGEST_RECORD
            end = begin + _HEADER + length + _FOOTER
            if self._broken or len(self._rest) < end:
                break
            yield self._rest[begin + _HEADER : end - _FOOTER]
            begin = end
        self._rest = self._rest[begin:]


def _scalars(event: bytes) -> Iterator[tuple[str, float, int, float]]:
    seconds, step, summaries = 0.0, 0, []
    for number, value in _fields(event):
        if number == 1:
            (seconds,) = struct.unpack("<d", _bytes(value))
        elif number == 2:
            step = int(value) if isinstance(value, int) and value <= _LARGEST_STEP else 0
        elif number == 5:
            summaries.append(_bytes(value))
    for summary in summaries:
        for number, field in _fields(summary):
            tag, scalar = _value(_bytes(field)) if number == 1 else ("", None)
            if tag and scalar is not None:
                yield tag, scalar, step, seconds


def _value(message: bytes) -> tuple[str, float | None]:
    """Tag and scalar of a ``Summary.Value``; the scalar is None for other content, such as an image."""
    tag, scalar = "", None
    for number, value in _fields(message):
        if number == 1:
            tag = _bytes(value).decode("utf-8", "replace")
        elif number == 2:
            (scalar,) = struct.unpack("<f", _bytes(value))
        elif number == 8:
            scalar = _tensor(_bytes(value))
    return tag, scalar


def _tensor(message: bytes) -> float | None:
    """The only number of a ``TensorProto``; None for other shapes and types."""
    kind, content, sizes = 0, b"", []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2:
            sizes = [size for field, size in _fields(_bytes(value)) if field == 2]
        elif number in (4, 5, 6):
            content = _bytes(value)
    one = all(dict(_fields(_bytes(size))).get(1) == 1 for size in sizes)
    if not one or kind not in _FLOATS or len(content) != struct.calcsize(_FLOATS[kind]):
        return None
    return struct.unpack(f"<{_FLOATS[kind]}", content)[0]


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("found a number, need a message")  # noqa: TRY004 - the data is wrong, not a type
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer: an int for a varint, otherwise the bytes.

    Raises:
        ValueError: the message is damaged.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = message[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(message):
            raise ValueError("incomplete field")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = message[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return result & (2**64 - 1), at
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")
