"""What terminals are sent -> lines of plain text, however it is cut into pieces."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.metrics import LineParser
from katib_flow.metrics.lines import LINE_BYTES, Lines, LineSplitter, Tail


def lines(*parts: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for part in parts for line in splitter.split(part)] + splitter.split(b"", end=True)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"\x1b[32maccuracy=0.5\x1b[0m", ["accuracy=0.5"]),
        (b"\x1b[1;38;5;12macc\x1b[muracy\x1b[0m=\x1b[31m0.\x1b[0m5", ["accuracy=0.5"]),
        (b"accuracy=0.5\x1b[K\n", ["accuracy=0.5"]),
        (b"\x1b[2K\x1b[1Aloss=1\x1b[1Bloss=2", ["loss=1", "loss=2"]),
        (b"10%\x1b[Gloss=1\x1b[Gloss=2", ["10%", "loss=1", "loss=2"]),
        (b"10%\x1b[40Dloss=2", ["10%", "loss=2"]),
        (b"loss\x1b[3C=\x1b[2C2", ["loss = 2"]),
        (b"10%\rloss=1\rloss=2\r\n", ["10%", "loss=1", "loss=2"]),
        (b"1/2\x08\x08\x082/2 loss=2", ["1/2", "2/2 loss=2"]),
        (b"\x1b[?25lloss=1\x1b[?25h", ["loss=1"]),
        (b"\x1b]0;title loss=9\x07loss=1", ["loss=1"]),
        (b"\x1b]8;;http://x?loss=9\x1b\\loss=1\x1b]8;;\x1b\\", ["loss=1"]),
        (b"\x1b(Bloss=1\x1b=", ["loss=1"]),
        (b"\x1b7loss=1\x1b8loss=2", ["loss=1", "loss=2"]),
        (b"\xef\xbb\xbfloss=1\r\nloss=2\r\n", ["loss=1", "loss=2"]),
        ("\x9b32mloss=1".encode(), ["loss=1"]),
        (b"\0\0loss=1\0", ["loss=1"]),
        (b"loss=1\x0closs=2\x0bloss=3", ["loss=1", "loss=2", "loss=3"]),
        (b"a\tb", ["a\tb"]),
        (b"loss=1\x1b", ["loss=1"]),
        (b"loss=1\x1b[", ["loss=1"]),
        (b"\x1b]loss=1", ["loss=1"]),
    ],
)
def test_only_what_is_text_is_read(written, read):
    assert lines(written) == read
    assert lines(*(written[at : at + 1] for at in range(len(written)))) == read


@given(st.binary(max_size=60) | st.text(alphabet="\x1b[]0;m?GKa=1\r\n\x07\\ ", max_size=60).map(str.encode))
def test_no_bytes_raise_and_none_are_left_that_a_terminal_obeys(data):
    for line in lines(data):
        assert line.strip()
        assert not set(line) & {*map(chr, range(9)), *map(chr, range(10, 32)), "\x7f", "\ufeff"}


def test_json_may_begin_with_a_byte_order_mark():
    (line,) = lines(b'\xef\xbb\xbf{"loss": 1}')
    assert [metric.value for metric in LineParser(["loss"], "json").parse(line)] == [1]


def test_a_line_without_end_is_cut_between_words():
    """No number loses digits where a line is too long to be kept whole."""
    word = b"loss=0.123456789 "
    count = 2 * LINE_BYTES // len(word)
    data = word * count
    read = lines(*(data[at : at + 65_537] for at in range(0, len(data), 65_537)))
    assert " ".join(line.strip() for line in read).split() == ["loss=0.123456789"] * count


def test_a_word_without_end_is_not_kept():
    read = lines(b"x" * (LINE_BYTES + 1), b"loss=0.5 loss=0.25\n")
    assert [metric.value for line in read for metric in LineParser(["loss"]).parse(line)] == [0.25]


@pytest.mark.parametrize("text", ["\x1b[", "\x1b]", "\x1b[1;", "\x08", "\x1b]0;\x1b"])
def test_a_line_of_a_million_of_them_takes_time_in_proportion(text):
    assert isinstance(lines(text.encode() * 200_000), list)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless", "", "nothing"):
        assert list(Tail(tmp_path / name).portions()) == []


def test_a_large_file_is_read_a_portion_at_a_time_as_far_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("katib_flow.metrics.lines.PORTION_BYTES", 7)
    path = tmp_path / "log"
    path.write_bytes(b"loss=0.125\n" * 5)
    tail, portions = Tail(path), []
    for portion in tail.portions():
        portions.append(portion)
        with path.open("ab") as file:
            file.write(b"x")  # of a program that writes for ever
    assert b"".join(portions) == b"loss=0.125\n" * 5
    assert max(map(len, portions)) == 7
    assert list(Lines(path).read(end=True)) == ["loss=0.125"] * 5 + ["x" * len(portions)]
