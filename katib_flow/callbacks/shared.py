"""Code that the callbacks share: imports of optional libraries, logged numbers, checkpoints, and early stopping."""

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from katib_flow.errors import KatibFlowError
from katib_flow.trial.user import checkpoint_dir, listen_for_stop, parent_checkpoint_dir, plain, report, should_stop

__all__ = ["Checkpoints", "RoundCheckpoints", "library", "listen_for_stop", "numbers", "report_numbers", "should_stop"]
_COUNT = re.compile(r"-(\d+)")


def library(package: str, *modules: str) -> Any:
    """Import a library: a module that is already imported, or else the first one that is installed.

    Args:
        package: the name of the package for pip.
        modules: the names of the library's modules; by default that of the package.

    Raises:
        KatibFlowError: the library is not installed.
    """
    names = modules or (package,)
    loaded = [name for name in names if name in sys.modules]
    for name in (*loaded, *names):
        if find_spec(name.partition(".")[0]) is not None:
            return import_module(name)
    raise KatibFlowError(f"this callback needs {names[0]}, which is not installed here: pip install {package}")


def numbers(logged: Mapping[str, Any] | None) -> dict[str, float]:
    """The values that are single numbers, of any library; texts, vectors and other values are skipped."""
    values: dict[str, float] = {}
    for name, value in (logged or {}).items():
        try:
            number = plain(value)
        except TypeError:
            continue
        if isinstance(number, float):
            values[name] = number
    return values


def report_numbers(logged: Mapping[str, Any] | None, step: int) -> None:
    """Report the numbers among logged values, if there are any."""
    if values := numbers(logged):
        report(values, step=step)


class Checkpoints:
    """The newest checkpoint of a trial, a file or directory ``<stem>-<count><suffix>`` in its checkpoint directory.

    Args:
        stem: the beginning of the names.
        suffix: the end of the names.
        contains: for directories: a file that exists in a complete checkpoint.
    """

    def __init__(self, stem: str, suffix: str = "", contains: str = "") -> None:
        self._stem, self._suffix, self._contains = stem, suffix, contains

    def latest(self) -> Path | None:
        """The newest checkpoint of this trial, from before a retry, or of the trial that it continues; or None."""
        for directory in (checkpoint_dir(), parent_checkpoint_dir()):
            if directory is not None and (kept := self._kept(directory)):
                return kept[-1]
        return None

    def count(self) -> int:
        """The number in the name of the newest checkpoint; 0 if there is no checkpoint."""
        path = self.latest()
        return self._number(path) if path else 0

    def keep(self, count: int, save: Callable[[str], object], *, rename: bool = True) -> None:
        """Write a checkpoint atomically, and delete older ones.

        Args:
            count: the number of trained epochs, rounds or steps.
            save: writes the checkpoint to a path, which has the suffix.
            rename: False in all but one of several processes that save together.
        """
        directory = checkpoint_dir()
        path = directory / f"{self._stem}-{count:06d}{self._suffix}"
        part = directory / f".part{self._suffix}"
        save(str(part))
        if not rename:
            return
        part.replace(path)
        for old in self._kept(directory):
            if old != path:
                _remove(old)

    def _kept(self, directory: Path) -> list[Path]:
        paths = directory.glob(f"{self._stem}-*{self._suffix}")
        whole = (path for path in paths if self._number(path) >= 0 and (path / self._contains).exists())
        return sorted(whole, key=self._number)

    def _number(self, path: Path) -> int:
        match = _COUNT.fullmatch(path.name[len(self._stem) : len(path.name) - len(self._suffix)])
        return int(match[1]) if match else -1


class RoundCheckpoints:
    """The part of the callbacks for boosting that saves checkpoints and continues from them.

    Args:
        checkpoints: the number of rounds between two checkpoints; 0 for no checkpoints.
    """

    suffix: ClassVar[str]
    """The suffix of the library's model files."""

    def __init__(self, *, checkpoints: int = 0) -> None:
        super().__init__()
        self._every, self._checkpoints = checkpoints, Checkpoints("round", self.suffix)

    @property
    def checkpoint(self) -> Path | None:
        """The newest model of this trial, from before a retry, or of the trial that it continues; None without one."""
        return self._checkpoints.latest()

    @property
    def rounds(self) -> int:
        """The number of rounds that ``checkpoint`` was boosted for; 0 if there is no checkpoint."""
        return self._checkpoints.count()

    def keep_model(self, rounds: int, save: Callable[[str], object]) -> None:
        """Save the model if a checkpoint is due after this number of rounds."""
        if self._every and rounds % self._every == 0:
            self._checkpoints.keep(rounds, save)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
