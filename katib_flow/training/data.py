"""Images by name, split once and for all: ``digits`` ships with scikit-learn; others are files that `make data` packs.

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
    """Images, shape (image, channel, height, width), about 0 to 1; labels, shape (image,), from 0."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Split":
        return self if count is None else Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """Three splits: to train on, to search with, and to judge what was found."""

    train: Split
    valid: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        return int(max(split.labels.max() for split in (self.train, self.valid, self.test))) + 1


def load_data(name: str, train_size: int | None = None) -> Data:
    """The images of a name, or of a function ``module:name`` that gives ``Data``.

    Args:
        train_size: how many of the training images, from the first; all where it is left out.

    Raises:
        KatibFlowError: there are none.
    """
    data = _load(name)
    if train_size is not None and not 1 <= train_size <= len(data.train):
        raise KatibFlowError(f"train_size: found {train_size}, need 1 to {len(data.train)}, the images of {name}")
    return Data(data.train.first(train_size), data.valid, data.test)


@lru_cache(maxsize=2)
def _load(name: str) -> Data:
    return by_name(name, SOURCES, Data)


def by_name(name: str, sources: Mapping[str, Callable[[str], Kind]], kind: type[Kind]) -> Kind:
    """The data of a name, or of a function ``module:name``.

    Raises:
        KatibFlowError: there is none.
    """
    if ":" in name:
        return _own(name, kind)
    if name not in sources:
        need = f"one of {', '.join(sources)}, or module:function{did_you_mean(name, sources)}"
        raise KatibFlowError(f"data: found {name!r}, need {need}")
    return sources[name](name)


def _own(reference: str, kind: type[Kind]) -> Kind:
    """What a function ``module:name`` gives, which has to be of a kind.

    Raises:
        KatibFlowError: there is no such function, it raises, or gives something else.
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
    """Shuffle with a seed of its own, and cut: the last are the test images, before them the validation images."""
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order].astype(np.float32), labels[order].astype(np.int64)
    train = len(labels) - valid - test
    edges = (slice(0, train), slice(train, train + valid), slice(train + valid, None))
    return Data(*(Split(images[part], labels[part]) for part in edges))


def _digits(name: str) -> Data:
    """1,797 images of 8 x 8 in 16 grey levels: 300 to train on, 747 and 750 to judge by, as in NB-digits."""
    package = find_spec("sklearn")  # its file is read as it stands: importing the package takes a second in every trial
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        rows = np.loadtxt(file, delimiter=",")  # 64 pixels and a label
    return split(rows[:, :-1].reshape(-1, 1, 8, 8) / 16.0, rows[:, -1], valid=747, test=750)


def _packed(name: str) -> Data:
    """70,000 images of 28 x 28 from a file that ``make data`` makes: 50,000, 10,000 and 10,000."""
    path = Path(os.environ.get(DATA_DIRECTORY, "data")) / f"{name}.npz"
    if not path.exists():
        raise KatibFlowError(f"data: {name}: no file {path}; `make data` makes it ({DATA_DIRECTORY} says where)")
    with np.load(path, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return split(images[:, None].astype(np.float32) / 255.0, labels, valid=10_000, test=10_000)


SOURCES: dict[str, Callable[[str], Data]] = {"digits": _digits, "mnist": _packed, "fashion-mnist": _packed}
