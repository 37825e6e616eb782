"""What systems that train a supernet have in common: its data, its children, its checkpoint."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.errors import KatibFlowError
from katib_flow.models.build import Network, build, first_convolutions
from katib_flow.models.choices import choice_metrics
from katib_flow.models.optional import Block, blocks
from katib_flow.training.data import Data, Split
from katib_flow.training.loop import evaluate, tensors
from katib_flow.trial import user

CHECKPOINT = "search.pt"
Batch = tuple[Tensor, Tensor]


def supernet_of_trial(data: Data, *, seed: int, threads: int) -> Network:
    """The supernet that this trial trains, its normalisation without scale and shift, on the GPU if there is one.

    Raises:
        KatibFlowError: the images are not those that the topology takes.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    topology = user.topology()
    wanted = (topology.input.shape, topology.output.classes)
    if wanted != (data.shape, data.classes):
        found = f"images of shape {data.shape} in {data.classes} classes"
        raise KatibFlowError(f"data: found {found}, need shape {wanted[0]} and {wanted[1]}, as the topology has it")
    network = build(topology, seed=seed, affine=False)
    return network.to("cuda") if torch.cuda.is_available() else network


class Search(Protocol):
    """The search of a supernet under way."""

    network: Network
    epoch: int

    def train_epoch(self) -> None: ...

    def metrics(self, data: Data) -> dict[str, object]: ...

    def state(self) -> dict[str, Any]: ...


def segment(search: Search, last: int, data: Data) -> Iterator[dict[str, object]]:
    """Train up to an epoch, with a checkpoint after each; what the trial reports of each."""
    while search.epoch < last and not user.should_stop():
        search.train_epoch()
        yield search.metrics(data)
        save(search.state())  # now: who goes on from it does not report this epoch again
    user.save_model(search.network)


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


def one_hot(network: Network, choice: Mapping[str, int]) -> dict[str, Tensor]:
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
        for convolution in first_convolutions(network.operation(reader))
    ]


@contextmanager
def unread_kept(
    known: Sequence[Columns], child: Mapping[str, int], optimiser: torch.optim.Optimizer
) -> Generator[None, None, None]:
    """A step inside leaves weights alone that read what a child has not, which decay and momentum would move."""
    out = [each for each in known if child[each.block.group] != each.block.position]
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


def evaluate_child(network: Network, choice: Mapping[str, int], train: Batch, valid: Split) -> tuple[float, float]:
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


def report(network: Network, choice: Mapping[str, int], train: Batch, valid: Split) -> dict[str, float]:
    """Metrics of the architecture that a search has come to: which it is, its loss and accuracy with shared weights."""
    loss, accuracy = evaluate_child(network, choice, train, valid)
    taken = {
        name: float(position == choice[slot])
        for slot, names in choice_metrics(network.topology, "choice").items()
        for position, name in enumerate(names)
    }
    return {"accuracy": accuracy, "loss": loss, **taken}


def save(content: Mapping[str, Any]) -> None:
    """Keep what the next segment, or another attempt at this one, goes on from."""
    path = user.checkpoint_dir() / CHECKPOINT
    part = path.with_suffix(".part")
    torch.save(dict(content), part)
    part.replace(path)


def restored() -> tuple[dict[str, Any] | None, int]:
    """What to go on from, None at the start of a search; and the epochs that were over when this segment began.

    Raises:
        KatibFlowError: the segment before left no checkpoint.
    """
    parent = user.parent_checkpoint_dir()
    before = _load(parent / CHECKPOINT if parent else None)
    if before is None and (wanted := user.trial_file().get("parent_checkpoint_dir")):
        raise KatibFlowError(f"{wanted}/{CHECKPOINT}: found nothing, need the checkpoint of the segment before")
    own = _load(user.checkpoint_dir() / CHECKPOINT)
    return own or before, before["epoch"] if before else 0


def _load(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    return torch.load(path, weights_only=True)  # tensors and numbers, no code
