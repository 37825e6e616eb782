"""Packs a directory that a running program writes to into an archive, consistent at one moment, and unpacks it.

Files are held by hard links until they are packed, so that the program may replace files meanwhile; if it continues to
write to a file, that is noticed, and the archive is discarded.
"""

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Listing = Mapping[str, tuple[int, int] | str]
"""Relative path -> size and time of the last change (ns) of a file, target of a symbolic link, or "" for a directory.
"""


def listing(directory: Path) -> Listing:
    """The content of a directory, perhaps incomplete if it changes meanwhile; empty if it does not exist."""
    return dict(_listed(directory, directory))


def _listed(directory: Path, root: Path) -> Iterator[tuple[str, tuple[int, int] | str]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = str(Path(entry.path).relative_to(root))
            with contextlib.suppress(OSError):  # it was deleted meanwhile
                if entry.is_symlink():
                    yield name, str(Path(entry.path).readlink())
                elif entry.is_dir():
                    yield name, ""
                    yield from _listed(Path(entry.path), root)
                else:
                    status = entry.stat()
                    yield name, (status.st_size, status.st_mtime_ns)


def hold(directory: Path, held: Path, seen: Listing) -> bool:
    """Copy a directory by hard links.

    Args:
        directory: the directory to copy.
        held: the copy, on the same file system; it is replaced atomically.
        seen: the listing of the directory when it was last checked.

    Returns:
        False if anything in the directory has changed since.

    Raises:
        OSError: the copy cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".held-", dir=held.parent) as scratch:
        copy = Path(scratch) / "copy"
        try:
            shutil.copytree(directory, copy, symlinks=True, copy_function=_hold)
        except (FileNotFoundError, shutil.Error):  # a file was deleted meanwhile
            return False
        if listing(copy) != seen:
            return False
        shutil.rmtree(held, ignore_errors=True)
        copy.replace(held)
        return True


def _hold(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # the file of another user, or a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def pack(held: Path, archive: Path, seen: Listing, directory: Path) -> bool:
    """Write an archive of a copy that ``hold`` has made.

    Args:
        seen: the listing of the copy.
        directory: the directory that was copied.

    Returns:
        False if a file was written to meanwhile, so that the archive is inconsistent.

    Raises:
        OSError: the archive cannot be written.
    """
    with tarfile.open(archive, "w") as tar:
        tar.add(held, arcname=".", filter=lambda member: _relative_link(member, directory))
    return listing(held) == seen


def _relative_link(member: tarfile.TarInfo, directory: Path) -> tarfile.TarInfo:
    """Make an absolute link into the directory relative, so that it works wherever the directory is unpacked."""
    if member.issym() and Path(member.linkname).is_relative_to(directory):
        member.linkname = os.path.relpath(member.linkname, directory / Path(member.name).parent)
    return member


Parts = tuple[str, ...]
"""A path inside the directory; () is the directory itself."""
_LONGEST_CHAIN = 40
"""The most symbolic links that Linux follows on one path."""


class HostileArchiveError(tarfile.TarError):
    """An archive contains something that ``pack`` never writes and that could reach outside its directory."""


def unpack(archive: Path, directory: Path) -> None:
    """Unpack an archive into a new directory, atomically.

    The checks are the same on every Python: tarfile has had filters only since 3.11.4, and they have changed since.
    Named pipes, and symbolic links that lead outside the directory, may be in a checkpoint; they are skipped.

    Raises:
        HostileArchiveError: a name lies outside the directory or behind a link, a hard link is to anything but an
            earlier file in the archive, or a member is a device, a sparse file or a duplicate. Nothing is unpacked.
        OSError, tarfile.TarError: the archive cannot be read or is truncated, or the directory cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kept-", dir=directory.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archive, "r:") as tar:
            members = _members(tar)
            checked = _checked(members)
            _check_end(archive, members)
            _extract(tar, checked, unpacked)
        unpacked.replace(directory)


def _members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    try:
        return tar.getmembers()
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:  # from tarfile, for a damaged header
        raise tarfile.ReadError(f"a header is damaged: {error}") from error


def _check_end(archive: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """Check that an archive ends with blocks of zeros: tarfile accepts one that is truncated between two members."""
    if not members:
        raise tarfile.ReadError("the archive is empty")
    last = members[-1]
    data = last.size if last.isreg() else 0
    with archive.open("rb") as file:
        file.seek(last.offset_data + -(-data // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the archive is truncated")


def _checked(members: Sequence[tarfile.TarInfo]) -> dict[Parts, tarfile.TarInfo]:
    """The members to unpack, by path."""
    paths: dict[Parts, tarfile.TarInfo] = {}
    for member in members:
        path = _inside(member, member.name)
        if path in paths:
            raise HostileArchiveError(f"{member.name!r} is in the archive twice")
        _check_kind(member, paths)
        paths[path] = member
    for path, member in paths.items():
        if any(above in paths and not paths[above].isdir() for above in (path[:end] for end in range(len(path)))):
            raise HostileArchiveError(f"{member.name!r} lies inside a member that is not a directory")
    links = {path: member.linkname for path, member in paths.items() if member.issym()}
    outside = {path for path in links if not _leads_inside(path, links)}
    return {path: member for path, member in paths.items() if path not in outside and not member.isfifo()}


def _inside(member: tarfile.TarInfo, name: str) -> Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise HostileArchiveError(f"{member.name!r}: the path {name!r} leads outside the directory")
    return parts


def _check_kind(member: tarfile.TarInfo, earlier: Mapping[Parts, tarfile.TarInfo]) -> None:
    if "\0" in member.name + member.linkname:
        raise HostileArchiveError(f"{member.name!r} has a null character in its name")
    if member.islnk():
        original = earlier.get(_inside(member, member.linkname))
        if original is None or not (original.isreg() or original.islnk()):
            raise HostileArchiveError(
                f"{member.name!r} is a hard link to {member.linkname!r}, which is not an earlier file in the archive"
            )
    elif member.issparse() or not (member.isreg() or member.isdir() or member.issym() or member.isfifo()):
        raise HostileArchiveError(f"{member.name!r} is not a plain file, a directory or a link")


def _leads_inside(link: Parts, links: Mapping[Parts, str]) -> bool:
    """True if a symbolic link stays inside, resolved as a kernel does: ``..`` applies after the links before it."""
    at: list[str] = []
    ahead = list(reversed(link))
    followed = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            if not at:
                return False
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            target = links.get(tuple(at))
            if target is not None:
                followed += 1
                if target.startswith("/") or followed > _LONGEST_CHAIN:
                    return False
                at.pop()
                ahead.extend(reversed(target.split("/")))
    return True


def _extract(tar: tarfile.TarFile, members: Mapping[Parts, tarfile.TarInfo], directory: Path) -> None:
    """Write members into an empty directory, symbolic links last, so that nothing is written through one."""
    for path, member in sorted(members.items(), key=lambda item: item[1].issym()):
        target = directory.joinpath(*path)
        (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
        if member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            target.hardlink_to(directory.joinpath(*_inside(member, member.linkname)))
        elif member.isreg():
            _write(tar, member, target)
    for path, member in members.items():
        if member.isdir():
            _set_time(directory.joinpath(*path), member)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # it is a file
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(member.mode & 0o755 | 0o600)
    _set_time(target, member)


def _set_time(path: Path, member: tarfile.TarInfo) -> None:
    with contextlib.suppress(OSError, OverflowError, ValueError):  # a damaged header may have an invalid time
        os.utime(path, (member.mtime, member.mtime))
