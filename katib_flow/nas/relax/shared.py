"""Weights that all architectures of a supernet share: on what images they train, which of them a child has."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.models.build import Network, first_weights
from katib_flow.models.choices import choices_told
from katib_flow.models.optional import Block, blocks
from katib_flow.nas.relax.chain import SupernetSettings
from katib_flow.nas.relax.choice import Choice
from katib_flow.training.data import Data, Split
from katib_flow.training.loop import cosine, evaluate, tensors

Batch = tuple[Tensor, Tensor]


def halves(data: Data) -> tuple[Split, Split]:
    """The training images in two: one half for the weights, the other for the architecture."""
    middle = len(data.train) // 2
    images, labels = data.train.images, data.train.labels
    return Split(images[:middle], labels[:middle]), Split(images[middle : 2 * middle], labels[middle : 2 * middle])


def on_device(network: Network, split: Split) -> Batch:
    return tensors(split, next(iter(network.parameters())).device)


def rows(batch: Batch, chosen: np.ndarray) -> Batch:
    """Some images, by their positions, with their labels."""
    return batch[0][chosen], batch[1][chosen]


def weights_optimiser(network: Network, settings: SupernetSettings, *, nesterov: bool = False) -> torch.optim.Optimizer:
    """Stochastic gradient descent of the weights, and of no architecture weights."""
    how: Any = {"lr": settings.lr, "momentum": settings.momentum, "weight_decay": settings.weight_decay}
    return torch.optim.SGD(network.weights(), **how, nesterov=nesterov and settings.momentum > 0)


def set_rate(optimiser: torch.optim.Optimizer, settings: SupernetSettings, epoch: int) -> float:
    """Give the weights the learning rate of an epoch, counted from 1: one cosine over the whole search."""
    rate = cosine((epoch - 1) / settings.epochs, settings.lr, settings.lr_end)
    optimiser.param_groups[0]["lr"] = rate
    return rate


def one_hot(network: Network, choice: Choice) -> dict[str, Tensor]:
    """Weights that take one choice of each group, by its position, and run no other."""
    made: dict[str, Tensor] = {}
    for group, alpha in network.architecture_weights().items():
        made[group] = torch.zeros_like(alpha, requires_grad=False)
        made[group][choice[group]] = 1.0
    return made


@dataclass(frozen=True)
class Columns:
    """Weights of a convolution, shape (out, in, height, width), that read what comes through an edge that may be out.

    Attributes:
        weight: all that the convolution has.
        block: which of its input channels.
    """

    weight: Tensor
    block: Block


def columns(network: Network) -> list[Columns]:
    """Of every convolution that reads a stack."""
    return [
        Columns(convolution.weight, block)
        for block in blocks(network.flat, network.shapes)
        for reader in block.readers
        for convolution in first_weights(network.operation(reader))
    ]


@contextmanager
def unread_kept(
    known: Sequence[Columns], child: Choice, optimiser: torch.optim.Optimizer
) -> Generator[None, None, None]:
    """A step inside leaves weights alone that read what a child has not, which decay and momentum would move."""
    out = [each for each in known if not each.block.is_read(child)]
    unread = [each for each in out if each.weight.grad is not None]
    before = [[part.clone() for part in _parts(each, optimiser)] for each in unread]
    yield
    for each, kept in zip(unread, before, strict=True):
        weight, *momentum = _parts(each, optimiser)
        weight.copy_(kept[0])
        for part in momentum:
            part.copy_(kept[1] if len(kept) > 1 else torch.zeros_like(part))


def _parts(each: Columns, optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """The weights themselves, and their momentum where they have one."""
    momentum = optimiser.state.get(each.weight, {}).get("momentum_buffer")
    tensors = [each.weight.detach()] if momentum is None else [each.weight.detach(), momentum]
    return [tensor[:, each.block.start : each.block.stop] for tensor in tensors]


@contextmanager
def statistics_kept(network: nn.Module) -> Generator[None, None, None]:
    """Whatever runs inside leaves the running statistics of normalisation as they were."""
    before = {name: each.detach().clone() for name, each in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, each in network.named_buffers():
                each.copy_(before[name])


def child_step(
    network: Network,
    child: Choice,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    known: Sequence[Columns],
    clip: float,
) -> None:
    """Train the shared weights that a child reaches, and no other.

    Args:
        known: of the convolutions that read a stack, of which a child may reach a part.
        clip: largest norm of the gradient.
    """
    network.train()
    network.choose(one_hot(network, child))
    optimiser.zero_grad(set_to_none=True)  # what has no gradient is left alone, its momentum too
    loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
    if loss.requires_grad:
        loss.backward()
        nn.utils.clip_grad_norm_(network.weights(), clip)
        with unread_kept(known, child, optimiser):
            optimiser.step()


def child_loss(network: Network, child: Choice, batch: Batch) -> float:
    """Of a child with the shared weights; nothing shared is changed."""
    return float(nn.functional.cross_entropy(_child_logits(network, child, batch), batch[1]))


def child_accuracy(network: Network, child: Choice, batch: Batch) -> float:
    """The same, the share of images that it classifies correctly."""
    return float((_child_logits(network, child, batch).argmax(dim=1) == batch[1]).double().mean())


def _child_logits(network: Network, child: Choice, batch: Batch) -> Tensor:
    network.choose(one_hot(network, child))
    network.train()  # normalisation by the batch: running statistics are those of no child
    with torch.no_grad(), statistics_kept(network):
        return network(batch[0])


def evaluate_child(network: Network, choice: Choice, train: Batch, valid: Split) -> tuple[float, float]:
    """Loss and accuracy of one architecture with the shared weights.

    Its normalisation takes the statistics of its own features on the training images: those of the supernet are a
    mixture that fits no child.
    """
    network.choose(one_hot(network, choice))
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d | nn.BatchNorm1d)]
    with statistics_kept(network), torch.no_grad():
        momenta = [each.momentum for each in norms]
        for each in norms:
            each.reset_running_stats()
            each.momentum = None  # a plain mean over batches
        network.train()
        network(train[0])
        for each, momentum in zip(norms, momenta, strict=True):
            each.momentum = momentum
        return evaluate(network, valid)


def blend(network: Network) -> Mapping[str, Tensor]:
    """The weights of the choices of each group: the softmax of its architecture weights."""
    return {group: alpha.softmax(dim=0) for group, alpha in network.architecture_weights().items()}


def report(network: Network, choices: Sequence[Choice], train: Batch, valid: Split) -> dict[str, float]:
    """Metrics of the architectures that a search has come to, the best first: which they are, and of the best its loss
    and accuracy with shared weights.
    """
    loss, accuracy = evaluate_child(network, choices[0], train, valid)
    return {"accuracy": accuracy, "loss": loss, **choices_told(choices)}
