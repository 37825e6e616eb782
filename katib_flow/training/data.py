"""Image data sets by name, with fixed splits: ``digits`` ships with scikit-learn; `make data` packs files of others.

Credit: the digits are the test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).
"""

import gzip
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import KatibFlowError
from katib_flow.wording import did_you_mean

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Kind = TypeVar("Kind")
DATA_DIRECTORY = "KATIB_FLOW_DATA"


@dataclass(frozen=True)
class Split:
    """Images, shape (image, channel, height, width), about 0 to 1; labels, shape (image,), numbered from 0."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Split":
        """The first ``count`` images; None for all."""
        return self if count is None else Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """Three splits: to train on, to compare trials by (``valid``), and to judge the result of a search (``test``)."""

    train: Split
    valid: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """Number of classes: the largest label of any split, plus 1."""
        return int(max(split.labels.max() for split in (self.train, self.valid, self.test))) + 1


def load_data(name: str, train_size: int | None = None) -> Data:
    """Load a data set by name, or from a function ``module:name`` that returns ``Data``.

    Args:
        train_size: number of training images to keep, from the first; all by default.

    Raises:
        KatibFlowError: the data set is unknown or cannot be loaded, or has fewer training images.
    """
    data = _load(name)
    if train_size is not None and not 1 <= train_size <= len(data.train):
        raise KatibFlowError(f"train_size: found {train_size}, need 1 to {len(data.train)}, the images of {name}")
    return Data(data.train.first(train_size), data.valid, data.test)


@lru_cache(maxsize=2)
def _load(name: str) -> Data:
    return by_name(name, SOURCES, Data)


def by_name(name: str, sources: Mapping[str, Callable[[str], Kind]], kind: type[Kind]) -> Kind:
    """Load data by name, or from a function ``module:name``.

    Args:
        sources: the known names, and the functions that load their data.
        kind: the type that a function of the user's must return.

    Raises:
        KatibFlowError: the name is unknown, or the function fails or returns another type.
    """
    if ":" in name:
        return _own(name, kind)
    if name not in sources:
        need = f"one of {', '.join(sources)}, or module:function{did_you_mean(name, sources)}"
        raise KatibFlowError(f"data: found {name!r}, need {need}")
    return sources[name](name)


def _own(reference: str, kind: type[Kind]) -> Kind:
    """The data that a function ``module:name`` returns, which must be of a type.

    Raises:
        KatibFlowError: there is no such function, or it fails or returns another type.
    """
    module, _, name = reference.partition(":")
    try:
        data = getattr(import_module(module), name)()
    except Exception as error:
        raise KatibFlowError(f"data: {reference}: {type(error).__name__}: {error}") from error
    if not isinstance(data, kind):
        need = f"katib_flow.training.{kind.__name__}"
        raise KatibFlowError(f"data: {reference}: found {type(data).__name__}, need {need}")
    return data


def split(images: Any, labels: Any, valid: int, test: int, seed: int = 0) -> Data:
    """Shuffle images and labels, and cut them into training, validation and test images, in this order.

    Args:
        valid, test: numbers of validation and test images; the rest are for training.
        seed: for the shuffling, independent of the trial's seed.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int64)
    train = len(labels) - valid - test
    edges = (slice(0, train), slice(train, train + valid), slice(train + valid, None))
    return Data(*(Split(images[part], labels[part]) for part in edges))


def _digits(name: str) -> Data:
    """1,797 images of 8 x 8 in 16 grey levels: 300 for training, 747 and 750 to judge by, as in NB-digits."""
    package = find_spec("sklearn")  # its file is read directly: importing the package takes a second in every trial
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",")  # 64 pixels and a label
    return split(rows[:, :-1].reshape(-1, 1, 8, 8) / 16.0, rows[:, -1], valid=747, test=750)


def _packed(name: str) -> Data:
    """70,000 images of 28 x 28 from a file that ``make data`` creates: 50,000, 10,000 and 10,000."""
    path = Path(os.environ.get(DATA_DIRECTORY, "data")) / f"{name}.npz"
    if not path.exists():
        raise KatibFlowError(
            f"data: {name}: there is no file {path}; create it with `make data` ({DATA_DIRECTORY} sets the directory)"
        )
    with np.load(path, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return split(images[:, None].astype(np.float32) / 255.0, labels, valid=10_000, test=10_000)


SOURCES: dict[str, Callable[[str], Data]] = {"digits": _digits, "mnist": _packed, "fashion-mnist": _packed}
