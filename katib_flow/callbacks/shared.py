"""What the callbacks share: a library that may be missing, numbers among what is logged, checkpoints, the end."""

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
    """The first module of a library that is imported already, or that can be.

    Args:
        package: what pip installs.
        modules: names under which the library goes; that of the package where there are none.

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
    """Those of the values that are single numbers, of any library's kind; text, vectors and the rest are left out."""
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
    """Report the numbers among what a library logged; nothing where there are none."""
    if values := numbers(logged):
        report(values, step=step)


class Checkpoints:
    """The newest checkpoint of a trial, as one file or directory ``<stem>-<count><suffix>`` in its directory.

    Args:
        stem: with which the names begin.
        suffix: with which they end.
        contains: a file that a checkpoint which is a directory has once it is whole.
    """

    def __init__(self, stem: str, suffix: str = "", contains: str = "") -> None:
        self._stem, self._suffix, self._contains = stem, suffix, contains

    def latest(self) -> Path | None:
        """The newest of this trial's, which it left before a retry; else of the trial that it continues; or None."""
        for directory in (checkpoint_dir(), parent_checkpoint_dir()):
            if directory is not None and (kept := self._kept(directory)):
                return kept[-1]
        return None

    def count(self) -> int:
        """How much training the newest has had: the number in its name; 0 where there is none."""
        path = self.latest()
        return self._number(path) if path else 0

    def keep(self, count: int, save: Callable[[str], object], *, rename: bool = True) -> None:
        """Write a checkpoint whole, or not at all, and remove the older ones.

        Args:
            count: of epochs, rounds or steps that it has been trained for.
            save: writes it to a path, which has the suffix.
            rename: whether this process is the one, of several that save together, that gives it its name.
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
    """The part of a callback of boosting that keeps the model after every so many rounds, and goes on from it.

    Args:
        checkpoints: rounds between two checkpoints; 0 keeps none.
    """

    suffix: ClassVar[str]
    """Of the files that the library writes."""

    def __init__(self, *, checkpoints: int = 0) -> None:
        super().__init__()
        self._every, self._checkpoints = checkpoints, Checkpoints("round", self.suffix)

    @property
    def checkpoint(self) -> Path | None:
        """The model of this trial before a retry, or of the trial that it continues; None where there is none."""
        return self._checkpoints.latest()

    @property
    def rounds(self) -> int:
        """How many rounds ``checkpoint`` has been boosted for; 0 where there is none."""
        return self._checkpoints.count()

    def keep_model(self, rounds: int, save: Callable[[str], object]) -> None:
        """Keep the model if a checkpoint is due after so many rounds."""
        if self._every and rounds % self._every == 0:
            self._checkpoints.keep(rounds, save)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
