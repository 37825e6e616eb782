"""What a directory holds at a moment, in one archive: whole, or not at all."""

import contextlib
import errno
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katib_flow.trial import archive


def filled(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def packed(directory: Path) -> Path:
    file, held, seen = directory.with_suffix(".tar"), directory.with_suffix(".held"), archive.listing(directory)
    assert archive.hold(directory, held, seen)
    assert archive.pack(held, file, seen, directory)
    return file


names = st.from_regex(r"[a-c #%é'{]{1,8}", fullmatch=True).filter(lambda name: name.strip(". "))


@given(st.dictionaries(names, st.binary(max_size=40), max_size=4))
def test_files_come_back_as_they_were(tmp_path_factory, files):
    here = tmp_path_factory.mktemp("archive")
    directory = filled(here / "checkpoint", files)
    directory.mkdir(exist_ok=True)
    archive.unpack(packed(directory), here / "again")
    assert archive.listing(here / "again").keys() == archive.listing(directory).keys()
    assert {path.name: path.read_bytes() for path in (here / "again").iterdir()} == files


def test_times_modes_empty_directories_and_links_come_back(tmp_path):
    directory = filled(tmp_path / "checkpoint", {"epoch-1/weights": b"1", "epoch-2/weights": b"2"})
    (directory / "empty").mkdir()
    os.utime(directory / "epoch-1" / "weights", ns=(5_000_000_000, 5_250_000_000))
    (directory / "epoch-2" / "weights").chmod(0o700)
    (directory / "newest").symlink_to("epoch-2")
    (directory / "best").symlink_to(directory / "epoch-1")  # leads there wherever the directory is
    (directory / "elsewhere").symlink_to("/etc/passwd")
    archive.unpack(packed(directory), tmp_path / "pod" / "again")
    again = tmp_path / "pod" / "again"
    assert sorted(path.name for path in again.iterdir()) == ["best", "empty", "epoch-1", "epoch-2", "newest"]
    assert (again / "best" / "weights").read_bytes() == b"1"
    assert (again / "best").resolve() == (again / "epoch-1").resolve()
    assert (again / "newest" / "weights").read_bytes() == b"2"
    assert (again / "epoch-1" / "weights").stat().st_mtime_ns == 5_250_000_000
    assert os.access(again / "epoch-2" / "weights", os.X_OK)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_files_are_copied_where_they_cannot_be_linked(tmp_path, monkeypatch, refusal):
    def refused(*_, **__):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refused)
    directory = filled(tmp_path / "checkpoint", {"weights": b"1"})
    archive.unpack(packed(directory), tmp_path / "again")
    assert (tmp_path / "again" / "weights").read_bytes() == b"1"


def test_a_disk_on_which_nothing_can_be_held_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    directory = filled(tmp_path / "checkpoint", {"weights": b"1"})
    monkeypatch.setattr(os, "makedirs", full)
    with pytest.raises(OSError, match="No space left"):
        archive.hold(directory, tmp_path / "held", archive.listing(directory))


def test_a_change_since_it_was_listed_is_noticed_and_what_was_held_stays(tmp_path):
    directory, held = filled(tmp_path / "checkpoint", {"weights": b"old", "other": b""}), tmp_path / "held"
    first = archive.listing(directory)
    assert archive.hold(directory, held, first)
    for change in (
        lambda: (directory / "more").touch(),
        lambda: (directory / "other").unlink(),
        lambda: (directory / "weights").rename(directory / "weights-1"),
    ):
        seen = archive.listing(directory)
        change()
        assert not archive.hold(directory, held, seen)
        assert archive.listing(held) == first
    assert archive.hold(directory, held, archive.listing(directory))
    assert sorted(path.name for path in held.iterdir()) == ["more", "weights-1"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_takes_the_place_of_a_held_one_is_not_in_the_way(tmp_path):
    directory, held = filled(tmp_path / "checkpoint", {"weights": b"epoch 1"}), tmp_path / "held"
    seen = archive.listing(directory)
    assert archive.hold(directory, held, seen)
    (directory / "weights.part").write_bytes(b"epoch 2")
    (directory / "weights.part").replace(directory / "weights")
    assert archive.pack(held, tmp_path / "whole.tar", seen, directory)
    archive.unpack(tmp_path / "whole.tar", tmp_path / "again")
    assert (tmp_path / "again" / "weights").read_bytes() == b"epoch 1"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_held_file_that_somebody_writes_on_in_is_noticed(tmp_path, monkeypatch, when):
    directory, held = filled(tmp_path / "checkpoint", {"weights": b"epoch 1"}), tmp_path / "held"
    seen = archive.listing(directory)
    assert archive.hold(directory, held, seen)
    add = tarfile.TarFile.add

    def write() -> None:
        with (directory / "weights").open("ab") as file:
            file.write(b", and half of epoch 2")

    def while_packing(self, *args, **kwargs):
        add(self, *args, **kwargs)
        write()

    if when == "before":
        write()
    else:
        monkeypatch.setattr(tarfile.TarFile, "add", while_packing)
    assert not archive.pack(held, tmp_path / "torn.tar", seen, directory)


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "", data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def written(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """An archive with these members, as anybody may write one."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file


SPARSE = member("file")
SPARSE[0].pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000000"}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("../outside")], id="beside the directory"),
        pytest.param([member("deep/../../outside")], id="beside the directory, after a detour"),
        pytest.param([member("{here}/outside")], id="an absolute path"),
        pytest.param([member("out", tarfile.SYMTYPE, ".."), member("out/outside")], id="through a link that leads out"),
        pytest.param([member("a"), member("b", tarfile.SYMTYPE, "."), member("b/c")], id="through a link that stays"),
        pytest.param([member("file"), member("file/below")], id="below a file"),
        pytest.param([member("link", tarfile.SYMTYPE, "../outside"), member("link")], id="a link and then a file"),
        pytest.param([member("./file"), member("file")], id="twice"),
        pytest.param([member("hard", tarfile.LNKTYPE, "../victim")], id="a hard link to a file beside the directory"),
        pytest.param([member("hard", tarfile.LNKTYPE, "{here}/victim")], id="a hard link to an absolute path"),
        pytest.param(
            [member("soft", tarfile.SYMTYPE, "../victim"), member("hard", tarfile.LNKTYPE, "soft")],
            id="a hard link to a link",
        ),
        pytest.param([member("device", tarfile.CHRTYPE)], id="a character device"),
        pytest.param([member("device", tarfile.BLKTYPE)], id="a block device"),
        pytest.param([SPARSE], id="a sparse file of a terabyte"),
    ],
)
def test_a_hostile_archive_is_refused_and_nothing_of_it_is_written(tmp_path, members):
    here = tmp_path / "pod"
    filled(here, {"victim": b"untouched"})
    for info, _ in members:
        info.name, info.linkname = (text.replace("{here}", str(here)) for text in (info.name, info.linkname))
    evil = written(tmp_path / "evil.tar", member("innocent"), *members)
    with pytest.raises(archive.HostileArchiveError):
        archive.unpack(evil, here / "checkpoint")
    assert [path.name for path in here.iterdir()] == ["victim"]
    assert (here / "victim").read_bytes() == b"untouched"
    assert (here / "victim").stat().st_nlink == 1


def test_what_leads_elsewhere_is_left_out_and_the_rest_is_there(tmp_path):
    here = filled(tmp_path / "pod", {"secret": b"s"})
    file = written(
        tmp_path / "kept.tar",
        member("./epoch/weights", data=b"w"),
        member("absolute", tarfile.SYMTYPE, str(here / "secret")),
        member("out", tarfile.SYMTYPE, "../secret"),
        member("epoch/up", tarfile.SYMTYPE, ".."),
        member("crooked", tarfile.SYMTYPE, "epoch/up/../secret"),  # read as text, it stays inside
        member("by-another", tarfile.SYMTYPE, "out"),
        member("round", tarfile.SYMTYPE, "round"),
        member("straight", tarfile.SYMTYPE, "epoch/up/epoch/weights"),
        member("hard", tarfile.LNKTYPE, "epoch/weights"),
        member("pipe", tarfile.FIFOTYPE),
    )
    archive.unpack(file, here / "checkpoint")
    assert sorted(archive.listing(here / "checkpoint")) == ["epoch", "epoch/up", "epoch/weights", "hard", "straight"]
    assert (here / "checkpoint" / "straight").read_bytes() == b"w"
    assert (here / "checkpoint" / "hard").samefile(here / "checkpoint" / "epoch" / "weights")


def test_nobody_else_may_write_what_was_unpacked_and_no_right_is_raised(tmp_path):
    info, data = member("program")
    info.mode = 0o6777
    archive.unpack(written(tmp_path / "kept.tar", (info, data)), tmp_path / "again")
    assert stat.S_IMODE((tmp_path / "again" / "program").stat().st_mode) == 0o755


def test_it_is_unpacked_where_tarfile_has_no_filters(tmp_path, monkeypatch):
    """As in Python 3.11.3 and before."""

    def extractall(self, path=".", members=None, *, numeric_owner=False):
        raise AssertionError("without a filter it follows whatever the archive says")

    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)
    archive.unpack(packed(filled(tmp_path / "checkpoint", {"weights": b"1"})), tmp_path / "again")
    assert (tmp_path / "again" / "weights").read_bytes() == b"1"


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_archive_is_refused_or_stays_inside(tmp_path_factory, damage):
    here = tmp_path_factory.mktemp("archive")
    info, data = member("a")
    info.pax_headers = {"mtime": "1.5", "comment": "x"}
    file = written(here / "kept.tar", (info, data), member("d/link", tarfile.SYMTYPE, "../a"), member("b"))
    content = bytearray(file.read_bytes())
    for position, value in damage:
        content[position] = value
    file.write_bytes(content)
    with contextlib.suppress(OSError, tarfile.TarError):
        archive.unpack(file, here / "pod" / "checkpoint")
    assert {path.name for path in here.iterdir()} <= {"kept.tar", "pod"}
    assert {path.name for path in (here / "pod").iterdir()} <= {"checkpoint"}
    assert all(path.resolve().is_relative_to(here / "pod" / "checkpoint") for path in (here / "pod").rglob("*"))


def test_what_is_cut_off_between_two_files_is_not_unpacked_at_all(tmp_path):
    file = packed(filled(tmp_path / "checkpoint", {"a": b"a", "z": b"z"}))
    with tarfile.open(file) as tar:
        last = tar.getmembers()[-1]
    file.write_bytes(file.read_bytes()[: last.offset])
    with pytest.raises(tarfile.ReadError, match="truncated"):
        archive.unpack(file, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_is_cut_off_is_not_unpacked_at_all(tmp_path):
    directory = filled(tmp_path / "checkpoint", {"weights": bytes(100_000), "z": b"z"})
    file = packed(directory)
    file.write_bytes(file.read_bytes()[:60_000])
    try:
        archive.unpack(file, tmp_path / "again")
    except tarfile.TarError:
        assert not (tmp_path / "again").exists()
    else:
        raise AssertionError("it was unpacked")
