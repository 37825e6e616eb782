"""A directory that a running program writes <-> one archive of it as it was at a moment.

Files are held by hard links until they are packed, so that a program that puts a new file in the place of an old one is
not in the way; one that writes on in a file is noticed, and what was packed is dropped.
"""

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

Listing = Mapping[str, tuple[int, int] | str]
"""Relative path -> size and time of the last change (ns); or where a symbolic link leads; "" for a directory."""


def listing(directory: Path) -> Listing:
    """What is in a directory; less than all of it, where it changes meanwhile. Empty where there is none."""
    return dict(_listed(directory, directory))


def _listed(directory: Path, root: Path) -> Iterator[tuple[str, tuple[int, int] | str]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = str(Path(entry.path).relative_to(root))
            with contextlib.suppress(OSError):  # it has gone
                if entry.is_symlink():
                    yield name, str(Path(entry.path).readlink())
                elif entry.is_dir():
                    yield name, ""
                    yield from _listed(Path(entry.path), root)
                else:
                    found = entry.stat()
                    yield name, (found.st_size, found.st_mtime_ns)


def hold(directory: Path, held: Path, seen: Listing) -> bool:
    """Have a directory beside another hold what that holds, by hard links.

    Args:
        held: on the same file system; replaced, wholly or not at all.
        seen: what the directory held when it was last looked at.

    Returns:
        False where anything in it has changed since.

    Raises:
        OSError: nothing can be written there.
    """
    with tempfile.TemporaryDirectory(prefix=".held-", dir=held.parent) as scratch:
        made = Path(scratch) / "made"
        try:
            shutil.copytree(directory, made, symlinks=True, copy_function=_hold)
        except (FileNotFoundError, shutil.Error):  # a file has gone
            return False
        if listing(made) != seen:
            return False
        shutil.rmtree(held, ignore_errors=True)
        made.replace(held)
        return True


def _hold(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # another user's, or a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def pack(held: Path, archive: Path, seen: Listing, of: Path) -> bool:
    """Write an archive of what is held.

    Args:
        seen: what it is.
        of: the directory that it was held of.

    Returns:
        False where somebody has written on in one of the files, and the archive is no good.

    Raises:
        OSError: the archive cannot be written.
    """
    with tarfile.open(archive, "w") as tar:
        tar.add(held, arcname=".", filter=lambda member: _leading_inside(member, of))
    return listing(held) == seen


def _leading_inside(member: tarfile.TarInfo, directory: Path) -> tarfile.TarInfo:
    """A link to a place in the directory leads there wherever the directory is."""
    if member.issym() and Path(member.linkname).is_relative_to(directory):
        member.linkname = os.path.relpath(member.linkname, directory / Path(member.name).parent)
    return member


def unpack(archive: Path, directory: Path) -> None:
    """Make a directory of an archive, wholly or not at all; what would lie or lead outside of it is left out.

    Raises:
        OSError, tarfile.TarError: it cannot be read, or the directory not be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kept-", dir=directory.parent) as scratch:
        made = Path(scratch) / "made"
        with tarfile.open(archive, "r:") as tar:
            tar.extractall(made, filter=_inside)  # noqa: S202 - the filter keeps everything inside
        made.replace(directory)


def _inside(member: tarfile.TarInfo, directory: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, directory)
    except tarfile.FilterError:
        return None
