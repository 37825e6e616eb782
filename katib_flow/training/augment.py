"""Augmentations of a batch of images, shape (batch, channel, height, width); random draws depend only on the seed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from katib_flow.errors import KatibFlowError
from katib_flow.wording import did_you_mean


def shift(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Move each image by up to an eighth of its height in both directions, filling with zeros."""
    most = max(1, images.shape[2] // 8)
    high, wide = images.shape[2:]
    padded = pad(images, (most, most, most, most))
    moves = rng.integers(0, 2 * most + 1, size=(len(images), 2))
    return torch.stack([padded[n, :, y : y + high, x : x + wide] for n, (y, x) in enumerate(moves.tolist())])


def flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror each image with probability 1/2; not for digits."""
    mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Set a random square of a quarter of the height to zero in each image (DeVries and Taylor, 2017)."""
    high, wide = images.shape[2:]
    side = max(1, high // 4)
    out = images.clone()
    corners = zip(rng.integers(0, high, len(images)), rng.integers(0, wide, len(images)), strict=True)
    for number, (y, x) in enumerate(corners):
        out[number, :, max(0, y - side // 2) : y + (side + 1) // 2, max(0, x - side // 2) : x + (side + 1) // 2] = 0
    return out


AUGMENTATIONS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "shift": shift,
    "flip": flip,
    "cutout": cutout,
}


def augmented(images: Tensor, names: Sequence[str], seed: tuple[int, ...]) -> Tensor:
    """Apply augmentations, in this order, to images of shape (batch, channel, height, width).

    Raises:
        KatibFlowError: an augmentation is unknown.
    """
    rng = np.random.default_rng(seed)
    for name in names:
        if name not in AUGMENTATIONS:
            need = f"one of {', '.join(AUGMENTATIONS)}{did_you_mean(name, AUGMENTATIONS)}"
            raise KatibFlowError(f"augment: found {name!r}, need {need}")
        images = AUGMENTATIONS[name](images, rng)
    return images
