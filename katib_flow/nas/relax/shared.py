"""Weights that all architectures of a supernet share: their training, and the evaluation of a child with them."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.models.build import Network
from katib_flow.models.choices import choice_metrics
from katib_flow.models.modules import first_weights
from katib_flow.models.optional import Block, blocks
from katib_flow.nas.relax.chain import SupernetSettings
from katib_flow.nas.relax.choice import Choice
from katib_flow.training.data import Data, Split
from katib_flow.training.loop import cosine, device_of, evaluate, tensors

Batch = tuple[Tensor, Tensor]


def halves(data: Data) -> tuple[Split, Split]:
    """Split the training images: the first half is for the weights, the second for the architecture."""
    middle = len(data.train) // 2
    images, labels = data.train.images, data.train.labels
    return Split(images[:middle], labels[:middle]), Split(images[middle : 2 * middle], labels[middle : 2 * middle])


def on_device(network: Network, split: Split) -> Batch:
    """The images and labels of a split as tensors on the network's device."""
    return tensors(split, device_of(network))


def rows(batch: Batch, chosen: np.ndarray) -> Batch:
    """Some images, by position, with their labels."""
    return batch[0][chosen], batch[1][chosen]


def weights_optimiser(network: Network, settings: SupernetSettings, *, nesterov: bool = False) -> torch.optim.Optimizer:
    """Stochastic gradient descent on the weights, architecture weights excluded."""
    how: Any = {"lr": settings.lr, "momentum": settings.momentum, "weight_decay": settings.weight_decay}
    return torch.optim.SGD(network.weights(), **how, nesterov=nesterov and settings.momentum > 0)


def set_rate(optimiser: torch.optim.Optimizer, settings: SupernetSettings, epoch: int) -> float:
    """Set and return the learning rate of an epoch, from 1: one cosine over the whole search."""
    rate = cosine((epoch - 1) / settings.epochs, settings.lr, settings.lr_end)
    optimiser.param_groups[0]["lr"] = rate
    return rate


def one_hot(network: Network, choice: Choice) -> dict[str, Tensor]:
    """Weights of 1 for the chosen position of each group, and 0 for the others; only the former run."""
    weights: dict[str, Tensor] = {}
    for group, alpha in network.architecture_weights().items():
        weights[group] = torch.zeros_like(alpha, requires_grad=False)
        weights[group][choice[group]] = 1.0
    return weights


@dataclass(frozen=True)
class Columns:
    """The weights of a convolution that read an optional edge.

    Attributes:
        weight: all weights of the convolution, shape (out, in, height, width).
        block: the input channels that belong to the edge.
    """

    weight: Tensor
    block: Block


def columns(network: Network) -> list[Columns]:
    """The weights that read optional edges, for every convolution that reads a concatenation."""
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
    """A context in which an optimiser step keeps the weights that read edges outside a child.

    Weight decay and momentum would change them otherwise.
    """
    out = [reader for reader in known if not reader.block.is_read(child)]
    unread = [reader for reader in out if reader.weight.grad is not None]
    before = [[part.clone() for part in _parts(reader, optimiser)] for reader in unread]
    yield
    for reader, kept in zip(unread, before, strict=True):
        weight, *momentum = _parts(reader, optimiser)
        weight.copy_(kept[0])
        for part in momentum:
            part.copy_(kept[1] if len(kept) > 1 else torch.zeros_like(part))


def _parts(reader: Columns, optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """The weights and, if there is one, their momentum."""
    momentum = optimiser.state.get(reader.weight, {}).get("momentum_buffer")
    tensors = [reader.weight.detach()] if momentum is None else [reader.weight.detach(), momentum]
    return [tensor[:, reader.block.start : reader.block.stop] for tensor in tensors]


@contextmanager
def statistics_kept(network: nn.Module) -> Generator[None, None, None]:
    """A context that restores the running statistics of normalisation at its end."""
    before = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])


def child_step(
    network: Network,
    child: Choice,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    known: Sequence[Columns],
    clip: float,
) -> None:
    """Train the shared weights that a child uses, and no others.

    Args:
        known: the weights that read optional edges, as given by ``columns``.
        clip: largest norm of the gradient.
    """
    network.train()
    network.choose(one_hot(network, child))
    optimiser.zero_grad(set_to_none=True)  # weights without a gradient keep their values and momentum
    loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
    if loss.requires_grad:
        loss.backward()
        nn.utils.clip_grad_norm_(network.weights(), clip)
        with unread_kept(known, child, optimiser):
            optimiser.step()


def child_loss(network: Network, child: Choice, batch: Batch) -> float:
    """The cross-entropy of a child with the shared weights, which stay unchanged."""
    return float(nn.functional.cross_entropy(_child_logits(network, child, batch), batch[1]))


def child_accuracy(network: Network, child: Choice, batch: Batch) -> float:
    """The accuracy of a child with the shared weights, from 0 to 1."""
    return float((_child_logits(network, child, batch).argmax(dim=1) == batch[1]).double().mean())


def _child_logits(network: Network, child: Choice, batch: Batch) -> Tensor:
    network.choose(one_hot(network, child))
    network.train()  # normalise by the batch, because running statistics mix all children
    with torch.no_grad(), statistics_kept(network):
        return network(batch[0])


def evaluate_child(network: Network, choice: Choice, train: Batch, valid: Split) -> tuple[float, float]:
    """Loss and accuracy of one architecture with the shared weights.

    The normalisation uses the statistics of the architecture's own features on the training images, because those of
    the supernet mix all children.
    """
    network.choose(one_hot(network, choice))
    norms = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)]
    with statistics_kept(network), torch.no_grad():
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
        network.train()
        network(train[0])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return evaluate(network, valid)


def blend(network: Network) -> Mapping[str, Tensor]:
    """The weight of each choice, by group: the softmax of the architecture weights."""
    return {group: alpha.softmax(dim=0) for group, alpha in network.architecture_weights().items()}


def report(network: Network, choices: Sequence[Choice], train: Batch, valid: Split) -> dict[str, float]:
    """The metrics of the derived architectures: their choices, and the loss and accuracy of the best one.

    Args:
        choices: the derived architectures, the best first.
        train: images for the statistics of normalisation.
        valid: images for loss and accuracy, which are those with shared weights.
    """
    loss, accuracy = evaluate_child(network, choices[0], train, valid)
    return {"accuracy": accuracy, "loss": loss, **choice_metrics(choices)}
