"""Artifacts that a tracking server stores and serves itself (``mlflow server --serve-artifacts``, the default)."""

import mimetypes
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from katib_flow.tracking.api import ApiError
from katib_flow.tracking.server import Server, content

PATH = "/api/2.0/mlflow-artifacts/artifacts"
CHUNK = 1 << 20


class Info(NamedTuple):
    """One entry of a folder.

    Attributes:
        path: relative to the root of the run's artifacts.
    """

    path: str
    is_dir: bool


class Served:
    """The artifacts below one address, with the methods of MLflow's ``ArtifactRepository`` that we use.

    Args:
        root: their path on the server, as returned by ``Served.root``.
    """

    def __init__(self, server: Server, root: str) -> None:
        self._server, self._root = server, root

    @staticmethod
    def root(uri: str) -> str | None:
        """The path of an artifact address on the tracking server; None if another server or store holds it."""
        parts = urlsplit(uri)
        return parts.path.strip("/") if parts.scheme == "mlflow-artifacts" and not parts.netloc else None

    def log_artifact(self, file: str, folder: str | None) -> None:
        """Upload a file into a folder, under its own name."""
        name = Path(file).name
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with Path(file).open("rb") as data:
            path = self._path(f"{folder}/{name}" if folder else name)
            self._server.request("PUT", path, data=data, headers={"Content-Type": mime})

    def log_artifacts(self, directory: str, folder: str) -> None:
        """Upload all files of a directory into a folder."""
        for file in Path(directory).rglob("*"):
            if file.is_file():
                self.log_artifact(str(file), str(PurePosixPath(folder) / file.parent.relative_to(directory).as_posix()))

    def list_artifacts(self, folder: str) -> list[Info]:
        """The entries of a folder; empty for a file, or if the folder does not exist.

        Raises:
            ApiError: the server names a file outside the folder.
        """
        response = self._server.request("GET", PATH, params={"path": f"{self._root}/{folder}"})
        entries = [Info(_safe(str(it["path"])), bool(it["is_dir"])) for it in content(response, PATH).get("files", ())]
        if [entry.path for entry in entries] == [PurePosixPath(folder).name] and not entries[0].is_dir:
            return []  # stores list a file as its own only entry
        return [Info(f"{folder}/{entry.path}", entry.is_dir) for entry in entries]

    def download_artifacts(self, name: str, directory: str) -> str:
        """Download a file or a folder into a directory, and return its local path."""
        target = Path(directory) / name
        files = list(self._files(name))
        for file in files or [name]:
            self._download(file, Path(directory) / file)
        return str(target)

    def _files(self, folder: str) -> Iterator[str]:
        for entry in self.list_artifacts(folder):
            if entry.is_dir:
                yield from self._files(entry.path)
            else:
                yield entry.path

    def _download(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._server.request("GET", self._path(name), stream=True) as response, target.open("wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)

    def delete_artifacts(self, name: str) -> None:
        """Delete a file."""
        self._server.request("DELETE", self._path(name))

    def _path(self, name: str) -> str:
        return f"{PATH}/{quote(f'{self._root}/{name}')}"


def _safe(name: str) -> str:
    """Check that a name from the server lies inside the requested folder."""
    path: Any = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ApiError(f"the server names an artifact {name!r}, need a name inside the requested folder")
    return name
