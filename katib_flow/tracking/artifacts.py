"""Artifacts of runs. All that is needed is the address of a run's artifacts: no query goes to MLflow's database."""

import shutil
import tempfile
import threading
import uuid
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from katib_flow.errors import NotFound, TrackingError
from katib_flow.tracking.faults import Faults, error_code, http_status
from katib_flow.tracking.served import Served
from katib_flow.tracking.server import Server


class Artifacts:
    """Writes and reads artifacts at an address.

    Files on this machine are accessed directly, artifacts that a tracking server serves through that server, and all
    others through MLflow.

    Args:
        server: the tracking server, if it can be used without MLflow.
    """

    def __init__(self, tracking_uri: str, faults: Faults, server: Server | None = None) -> None:
        self._tracking_uri, self._faults, self._server = tracking_uri, faults, server
        self._lock = threading.Lock()

    def write(self, uri: str, name: str, content: Path | str, patience_seconds: float | None = None) -> None:
        """Write a file, a directory or a text as the artifact ``name``, and replace an existing one.

        Raises:
            TrackingError: it cannot be written.
        """
        self._faults.run(lambda: self._write(uri, name, content), patience_seconds)

    def get(self, uri: str, name: str, patience_seconds: float | None = None) -> Path:
        """A local path to the content of an artifact; do not change it. A download is deleted when the process ends.

        Raises:
            NotFound: there is no such artifact.
            TrackingError: it cannot be read.
        """
        return self._faults.run(lambda: self._get(uri, name), patience_seconds)

    def names(self, uri: str, folder: str, patience_seconds: float | None = None) -> list[str]:
        """The names of the artifacts in a folder, sorted; empty if the folder does not exist."""
        return self._faults.run(lambda: self._names(uri, folder), patience_seconds)

    def delete(self, uri: str, name: str) -> None:
        """Delete an artifact, if it exists.

        Raises:
            TrackingError: the store refuses to delete it.
        """
        self._faults.run(lambda: self._delete(uri, name), 0)

    def _delete(self, uri: str, name: str) -> None:
        check_inside(name)
        if (root := local_path(uri)) is not None:
            (root / name).unlink(missing_ok=True)
        else:
            self._repository(uri).delete_artifacts(name)

    def _write(self, uri: str, name: str, content: Path | str) -> None:
        check_inside(name)
        if (root := local_path(uri)) is not None:
            _copy(content, root / name)
            return
        repository, folder = self._repository(uri), str(PurePosixPath(name).parent)
        with tempfile.TemporaryDirectory(prefix="katib-flow-") as scratch:
            named = Path(scratch) / PurePosixPath(name).name  # MLflow takes the name of the local file
            if isinstance(content, Path) and content.name == named.name:
                named = content
            else:
                _copy(content, named)
            if named.is_dir():
                repository.log_artifacts(str(named), name)
            else:
                repository.log_artifact(str(named), None if folder == "." else folder)

    def _get(self, uri: str, name: str) -> Path:
        check_inside(name)
        if (root := local_path(uri)) is not None:
            if not (root / name).exists():
                raise NotFound(f"{root}: has no artifact {name!r}")
            return root / name
        with self._lock:
            folder = Path(self._downloads.name) / uuid.uuid4().hex
        folder.mkdir()
        repository = self._repository(uri)
        try:
            return Path(repository.download_artifacts(name, str(folder)))
        except Exception as error:
            missing = http_status(error) == 404 or error_code(error) == "RESOURCE_DOES_NOT_EXIST"
            if missing or (http_status(error) == 500 and not _listed(repository, name)):
                raise NotFound(f"{uri}: has no artifact {name!r}") from error
            raise

    @cached_property
    def _downloads(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="katib-flow-")

    def _names(self, uri: str, folder: str) -> list[str]:
        if (root := local_path(uri)) is not None:
            names = [f"{folder}/{path.name}" for path in (root / folder).glob("*") if not path.name.startswith(".")]
        else:
            names = [str(info.path) for info in self._repository(uri).list_artifacts(folder)]
        return sorted(names)

    def _repository(self, uri: str) -> Any:
        """The artifact repository, in MLflow's terms, of an address."""
        if self._server is not None and (root := Served.root(uri)) is not None:
            return Served(self._server, root)
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(uri, tracking_uri=self._tracking_uri)


def _listed(repository: Any, name: str) -> bool:
    """True if an artifact is listed in its folder: MLflow 3.9 servers answer 500 for a missing artifact."""
    path = PurePosixPath(name)
    entries = repository.list_artifacts("" if str(path.parent) == "." else str(path.parent))
    return path.name in {PurePosixPath(str(entry.path)).name for entry in entries}


def check_inside(name: str) -> None:
    """Raises TrackingError if an artifact's name, which may come from a store, leads outside its run's artifacts."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name:
        raise TrackingError(f"artifact {name!r}: found a path that leaves its run's artifacts, need one inside them")


def local_path(uri: str) -> Path | None:
    """The directory on this machine that an artifact address names; None for any other address."""
    if urlsplit(uri).scheme not in ("", "file"):
        return None
    return Path(url2pathname(urlsplit(uri).path) if uri.startswith("file:") else uri)


def _copy(content: Path | str, target: Path) -> None:
    """Copy a text or a file atomically, so that no reader sees half of it; a directory file by file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path) and content.is_dir():
        shutil.copytree(content, target, dirs_exist_ok=True)
        return
    part = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex}")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, part)
        else:
            part.write_text(content, encoding="utf-8", newline="")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
