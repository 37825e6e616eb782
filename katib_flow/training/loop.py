"""Train a module on images: one small loop for all searches, deterministic on a CPU.

The order of the images depends only on the seed and the epoch, so training that is interrupted and continued from its
checkpoint gives, bit for bit, the same result as training without an interruption.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.errors import KatibFlowError
from katib_flow.models.build import DropPath
from katib_flow.training.augment import augmented
from katib_flow.training.data import Data, Split
from katib_flow.training.statistics import Statistics


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: the most optimiser steps; training may end within an epoch.
        batch: images per step.
        lr: initial learning rate; it falls to ``lr_end`` along half a cosine over all steps (Loshchilov and Hutter,
            ICLR 2017).
        augment: names of ``augment.AUGMENTATIONS``, applied in this order.
        clip: the largest norm of the gradient; None for no limit.
        drop_path: the probability, at the end of training, of dropping the value that an edge brings to a vertex with
            several incoming edges, independently for each image; it rises linearly from 0 (ScheduledDropPath; Zoph et
            al., CVPR 2018).
    """

    epochs: int = 10
    steps: int | None = None
    batch: int = 32
    lr: float = 0.1
    lr_end: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: tuple[str, ...] = ()
    clip: float | None = None
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """
        Raises:
            KatibFlowError: ``drop_path`` is outside [0, 1).
        """
        if not 0 <= self.drop_path < 1:
            raise KatibFlowError(f"drop_path: found {self.drop_path!r}, need a number from 0 to below 1")


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch.

    Attributes:
        number: of the epoch, from 1.
        train_loss, valid_loss: mean cross-entropies in nats; ``train_loss`` is NaN if no step was taken.
        valid_accuracy: from 0 to 1.
        statistics: the variances of each edge's output channels, by edge (``Statistics.variance``); may be empty.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    statistics: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


def train(
    module: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    seed: int = 0,
    statistics: bool = False,
    checkpoint: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train a module in place, one epoch per iteration.

    Args:
        recipe: with ``drop_path``, the module must come from ``build``.
        statistics: whether to gather feature statistics; the module must come from ``build``.
        checkpoint: file to continue from, if it exists, and to write after every epoch.
        stop: called between steps; if it returns True, training ends, after yielding the unfinished epoch.
    """
    device = device_of(module)
    images, labels = tensors(data.train, device)
    optimiser = optimiser_of(module, recipe)
    total = step_count(recipe, len(data.train))
    watch = Statistics() if statistics else None
    done = restored(checkpoint, module, optimiser, watch)
    per_epoch = math.ceil(len(labels) / recipe.batch)
    step = done * per_epoch
    for number in range(done + 1, math.ceil(total / per_epoch) + 1):
        losses: list[float] = []
        module.train()
        _watch(module, watch)
        for chosen in batches(len(labels), recipe.batch, seed, number):
            if step >= total or stop():
                break
            for group in optimiser.param_groups if optimiser else ():
                group["lr"] = cosine(step / total, recipe.lr, recipe.lr_end)
            if recipe.drop_path:
                module.drop_path = _drop_path(recipe.drop_path * step / total, seed, step)  # type: ignore[assignment]
            batch = augmented(images[chosen], recipe.augment, (seed, number, step))
            losses.append(_step(module, optimiser, batch, labels[chosen], recipe.clip))
            step += 1
        _watch(module, None)
        loss, accuracy = evaluate(module, data.valid)
        gathered = watch.variance() if watch else {}
        whole = not stop()
        yield Epoch(number, float(np.mean(losses)) if losses else math.nan, loss, accuracy, gathered)
        if checkpoint is not None and whole:  # only now: training that continues from it skips this epoch's report
            save_checkpoint(checkpoint, module, optimiser, watch, number)
        if stop():
            return


def _drop_path(rate: float, seed: int, step: int) -> DropPath:
    """The drops of a step, which depend only on the seed and the step."""
    numbers = np.random.default_rng((seed, step)).integers(1 << 63)
    return DropPath(rate, torch.Generator().manual_seed(int(numbers)))


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has no parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def tensors(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """The images and labels of a split as tensors on a device."""
    return torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device)


def optimiser_of(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer | None:
    """Stochastic gradient descent with Nesterov momentum; None if the module has no parameters to train."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    nesterov = recipe.momentum > 0
    settings: Any = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": nesterov}
    return torch.optim.SGD(parameters, lr=recipe.lr, **settings) if parameters else None


def step_count(recipe: Recipe, images: int) -> int:
    """Number of optimiser steps of a training on so many images."""
    whole = recipe.epochs * math.ceil(images / recipe.batch)
    return whole if recipe.steps is None else min(recipe.steps, whole)


def cosine(done: float, start: float, end: float) -> float:
    """The value on half a cosine from ``start`` to ``end``, at the fraction ``done`` in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The indices of the images of each step of an epoch, drawn without replacement; the last batch may be smaller."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    yield from (order[start : start + size] for start in range(0, count, size))


def _step(
    module: nn.Module, optimiser: torch.optim.Optimizer | None, images: Tensor, labels: Tensor, clip: float | None
) -> float:
    loss = nn.functional.cross_entropy(module(images), labels)
    if optimiser is not None and loss.requires_grad:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(list(module.parameters()), clip)
        optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def evaluate(module: nn.Module, split: Split, batch: int = 1024) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a split, the module in evaluation mode."""
    device = device_of(module)
    images, labels = tensors(split, device)
    module.eval()
    losses = torch.zeros((), dtype=torch.float64)
    right = 0
    for start in range(0, len(labels), batch):
        logits, wanted = module(images[start : start + batch]), labels[start : start + batch]
        losses += nn.functional.cross_entropy(logits, wanted, reduction="sum").double().cpu()
        right += int((logits.argmax(dim=1) == wanted).sum())
    return float(losses) / len(labels), right / len(labels)


def _watch(module: nn.Module, statistics: Statistics | None) -> None:
    if hasattr(module, "watch"):
        module.watch = statistics.add if statistics else None  # type: ignore[assignment]


def save_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer | None, watch: Statistics | None, epoch: int
) -> None:
    """Write a checkpoint of the training after an epoch, atomically."""
    content = {
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict() if optimiser else {},
        "statistics": watch.state() if watch else {},
        "epoch": epoch,
    }
    part = path.with_suffix(".part")
    torch.save(content, part)
    part.replace(path)


def restored(
    path: Path | None, module: nn.Module, optimiser: torch.optim.Optimizer | None, watch: Statistics | None
) -> int:
    """Restore the training from a checkpoint, and return its number of epochs; 0 if there is no checkpoint."""
    if path is None or not path.exists():
        return 0
    content = torch.load(path, weights_only=True)  # tensors and numbers, no code
    module.load_state_dict(content["module"])
    if optimiser is not None:
        optimiser.load_state_dict(content["optimiser"])
    if watch is not None:
        watch.restore(content["statistics"])
    return int(content["epoch"])
