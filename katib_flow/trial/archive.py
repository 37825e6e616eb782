"""A directory that a running program writes <-> one archive of it as it was at a moment.

Files are held by hard links until they are packed, so that a program that puts a new file in the place of an old one is
not in the way; one that writes on in a file is noticed, and what was packed is dropped.
"""

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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


Parts = tuple[str, ...]
"""A path inside the directory; () is the directory itself."""
_LONGEST_CHAIN = 40
"""Linux follows no more symbolic links than these on one path."""


class HostileArchiveError(tarfile.TarError):
    """An archive holds what `pack` never writes: unpacked, it could reach outside of its directory."""


def unpack(archive: Path, directory: Path) -> None:
    """Make a directory of an archive, wholly or not at all.

    The checks are the same on every Python: tarfile has filters only since 3.11.4, and they have changed since.
    A checkpoint may hold symbolic links that lead out of it, and named pipes: they are left out.

    Raises:
        HostileArchiveError: a name lies outside of the directory or behind a link, a hard link is to anything but an
            earlier file of the archive, or a member is a device, a sparse file or there twice. Nothing is unpacked.
        OSError, tarfile.TarError: it cannot be read or is cut off, or the directory cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kept-", dir=directory.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        with tarfile.open(archive, "r:") as tar:
            members = _members(tar)
            checked = _checked(members)
            _check_end(archive, members)
            _extract(tar, checked, made)
        made.replace(directory)


def _members(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    try:
        return tar.getmembers()
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:  # tarfile's own, of a damaged header
        raise tarfile.ReadError(f"a header is damaged: {error}") from error


def _check_end(archive: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """A whole archive ends with blocks of zeros; tarfile also takes one that is cut off between two members."""
    if not members:
        raise tarfile.ReadError("it is empty")
    last = members[-1]
    data = last.size if last.isreg() else 0
    with archive.open("rb") as file:
        file.seek(last.offset_data + -(-data // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it is cut off")


def _checked(members: Sequence[tarfile.TarInfo]) -> dict[Parts, tarfile.TarInfo]:
    """Path -> member, of those that are to be unpacked."""
    paths: dict[Parts, tarfile.TarInfo] = {}
    for member in members:
        path = _inside(member, member.name)
        if path in paths:
            raise HostileArchiveError(f"{member.name!r} is there twice")
        _check_kind(member, paths)
        paths[path] = member
    for path, member in paths.items():
        if any(above in paths and not paths[above].isdir() for above in (path[:end] for end in range(len(path)))):
            raise HostileArchiveError(f"{member.name!r} lies in something that is not a directory")
    links = {path: member.linkname for path, member in paths.items() if member.issym()}
    outside = {path for path in links if not _leads_inside(path, links)}
    return {path: member for path, member in paths.items() if path not in outside and not member.isfifo()}


def _inside(member: tarfile.TarInfo, name: str) -> Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise HostileArchiveError(f"{name!r}, of {member.name!r}, lies outside of the directory")
    return parts


def _check_kind(member: tarfile.TarInfo, earlier: Mapping[Parts, tarfile.TarInfo]) -> None:
    if "\0" in member.name + member.linkname:
        raise HostileArchiveError(f"{member.name!r} has a null character in its name")
    if member.islnk():
        original = earlier.get(_inside(member, member.linkname))
        if original is None or not (original.isreg() or original.islnk()):
            raise HostileArchiveError(
                f"{member.name!r} is a hard link to {member.linkname!r}, which is not an earlier file"
            )
    elif member.issparse() or not (member.isreg() or member.isdir() or member.issym() or member.isfifo()):
        raise HostileArchiveError(f"{member.name!r} is not a plain file, a directory or a link")


def _leads_inside(link: Parts, links: Mapping[Parts, str]) -> bool:
    """Whether a symbolic link stays inside, followed as a kernel does: ``..`` counts after the links on the way."""
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
    """Write members into an empty directory; symbolic links last, so that nothing is ever written through one."""
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
    with contextlib.suppress(OSError, OverflowError, ValueError):  # no time at all, in a damaged header
        os.utime(path, (member.mtime, member.mtime))
