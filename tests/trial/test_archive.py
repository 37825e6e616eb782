"""What a directory holds at a moment, in one archive: whole, or not at all."""

import os
import tarfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from katib_flow.trial import archive


def filled(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def packed(directory: Path) -> Path:
    file = directory.with_suffix(".tar")
    assert archive.pack(directory, file, archive.listing(directory))
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


def test_a_change_since_it_was_listed_is_noticed(tmp_path):
    directory = filled(tmp_path / "checkpoint", {"weights": b"old", "other": b""})
    seen = archive.listing(directory)
    file = tmp_path / "it.tar"
    assert archive.pack(directory, file, seen)
    for change in (
        lambda: (directory / "weights").write_bytes(b"newer"),
        lambda: (directory / "more").touch(),
        lambda: (directory / "other").unlink(),
        lambda: os.utime(directory / "weights", ns=(1, 1)),
    ):
        seen = archive.listing(directory)
        change()
        assert not archive.pack(directory, file, seen)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_is_written_while_it_is_packed_is_noticed_and_one_that_takes_its_place_is_not_in_the_way(
    tmp_path, monkeypatch
):
    directory = filled(tmp_path / "checkpoint", {"weights": b"epoch 1"})
    add = tarfile.TarFile.add

    def while_packing(then):
        def first(self, *args, **kwargs):
            then()
            return add(self, *args, **kwargs)

        monkeypatch.setattr(tarfile.TarFile, "add", first)

    def half_a_file() -> None:
        with (directory / "weights").open("ab") as file:
            file.write(b", and half of epoch 2")

    def a_new_file() -> None:
        (directory / "weights.part").write_bytes(b"epoch 3")
        (directory / "weights.part").replace(directory / "weights")

    while_packing(half_a_file)
    assert not archive.pack(directory, tmp_path / "torn.tar", archive.listing(directory))
    (directory / "weights").write_bytes(b"epoch 2")
    while_packing(a_new_file)
    assert archive.pack(directory, tmp_path / "whole.tar", archive.listing(directory))
    archive.unpack(tmp_path / "whole.tar", tmp_path / "again")
    assert (tmp_path / "again" / "weights").read_bytes() == b"epoch 2"


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


def test_when_something_was_last_written(tmp_path):
    assert archive.newest(tmp_path / "nothing") == 0
    directory = filled(tmp_path / "checkpoint", {"a": b"", "b": b""})
    for number, path in enumerate((directory, directory / "a", directory / "b")):
        os.utime(path, (number, number))
    assert archive.newest(directory) == 2
    (directory / "b").unlink()
    assert archive.newest(directory) > 2
