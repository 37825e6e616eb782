"""What a directory holds at a moment, in one archive: whole, or not at all."""

import errno
import os
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


def test_an_archive_that_would_write_elsewhere_does_not(tmp_path):
    evil = tmp_path / "evil.tar"
    filled(tmp_path, {"file": b"x"})
    with tarfile.open(evil, "w") as tar:
        tar.add(tmp_path / "file", arcname="../outside")
        tar.add(tmp_path / "file", arcname="inside")
        link = tarfile.TarInfo("way-out")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        tar.addfile(link)
        device = tarfile.TarInfo("device")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    archive.unpack(evil, tmp_path / "pod" / "checkpoint")
    assert [path.name for path in (tmp_path / "pod" / "checkpoint").iterdir()] == ["inside"]
    assert not (tmp_path / "pod" / "outside").exists()


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
