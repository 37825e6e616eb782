"""Train a recurrent network to predict the next token of a text; deterministic on a CPU.

A text is cut into as many parts as a batch has sequences, which are read in parallel. The gradient is propagated over
``length`` tokens and no further, while the state is carried on (truncated backpropagation through time; Werbos, 1990).
The beginning of an epoch's first piece depends only on the seed and the epoch, so training that is interrupted and
continued from its checkpoint gives, bit for bit, the same result as training without an interruption.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katib_flow.errors import KatibFlowError
from katib_flow.models.build import State
from katib_flow.models.topology import Topology
from katib_flow.training.loop import cosine, device_of, restored, save_checkpoint
from katib_flow.training.text import Text, Tokens
from katib_flow.training.trial import network_of_trial
from katib_flow.trial import user

CHECKPOINT = "training.pt"
PARTS, PIECE = 50, 100  # parts of a text in evaluation, and tokens of each that are read at once


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """How to train.

    Attributes:
        steps: the most optimiser steps; training may end within an epoch.
        batch: sequences that are read in parallel.
        length: tokens over which the gradient is propagated.
        lr: initial learning rate of Adam (Kingma and Ba, ICLR 2015); it falls to ``lr_end`` along half a cosine over
            all steps.
        clip: the largest norm of the gradient (Pascanu et al., ICML 2013); None for no limit.
    """

    epochs: int
    steps: int | None
    batch: int
    length: int
    lr: float
    lr_end: float
    clip: float | None

    def __post_init__(self) -> None:
        """
        Raises:
            KatibFlowError: ``epochs``, ``batch`` or ``length`` is below 1.
        """
        for name in ("epochs", "batch", "length"):
            if getattr(self, name) < 1:
                raise KatibFlowError(f"{name}: found {getattr(self, name)}, need 1 or more")


@dataclass(frozen=True)
class TextEpoch:
    """The results of an epoch, numbered from 1: mean cross-entropies in nats per token."""

    number: int
    train_loss: float
    valid_loss: float

    @property
    def perplexity(self) -> float:
        """The perplexity on the validation text: a uniform choice among so many tokens is as uncertain."""
        return perplexity(self.valid_loss)


def perplexity(loss: float) -> float:
    """exp(loss); infinite if that is too large for a float."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.float64(loss)))


def train_text(
    network: nn.Module,
    text: Text,
    recipe: TextRecipe,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[TextEpoch]:
    """Train a network in place, one epoch per iteration.

    Args:
        network: called with tokens, shape (sequence, token), and a state; returns logits, shape (sequence, token,
            class), and the next state.
        checkpoint: file to continue from, if it exists, and to write after every epoch.
        stop: called between steps; if it returns True, training ends, after yielding the unfinished epoch.
    """
    device = device_of(network)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=recipe.lr) if trained else None
    per_epoch = len(list(pieces(text.train, recipe.batch, recipe.length, recipe.length - 1)))
    total = recipe.epochs * per_epoch if recipe.steps is None else min(recipe.steps, recipe.epochs * per_epoch)
    done = restored(checkpoint, network, optimiser, None)
    step = done * per_epoch
    for number in range(done + 1, math.ceil(total / per_epoch) + 1):
        offset = int(np.random.default_rng((seed, number)).integers(recipe.length))
        losses: list[float] = []
        state: State = {}
        network.train()
        for read, wanted in pieces(text.train, recipe.batch, recipe.length, offset):
            if step >= min(total, number * per_epoch) or stop():
                break
            for group in optimiser.param_groups if optimiser else ():
                group["lr"] = cosine(step / total, recipe.lr, recipe.lr_end)
            loss, state = _loss(network, read.to(device), wanted.to(device), state)
            if optimiser is not None and loss.requires_grad:
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(trained, recipe.clip)
                optimiser.step()
            losses.append(float(loss.detach()))
            step += 1
        whole = not stop()
        yield TextEpoch(number, float(np.mean(losses)) if losses else math.nan, text_loss(network, text.valid))
        if checkpoint is not None and whole:  # only now: training that continues from it skips this epoch's report
            save_checkpoint(checkpoint, network, optimiser, None, number)
        if stop():
            return


def pieces(tokens: Tokens, batch: int, length: int, offset: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a text into parts, and read these in parallel, piece by piece.

    Args:
        batch: number of parts; fewer if the text has not two tokens for each.
        length: tokens of a piece; the last piece may be shorter.
        offset: tokens to skip at the beginning of each part; at least two are left.

    Yields:
        The tokens of a piece, and the token after each, both of shape (part, token).
    """
    parts = max(1, min(batch, len(tokens) // 2))
    long = len(tokens) // parts
    rows = torch.from_numpy(tokens[: parts * long].reshape(parts, long))
    for start in range(min(offset, long - 2), long - 1, length):
        end = min(start + length, long - 1)
        yield rows[:, start:end], rows[:, start + 1 : end + 1]


def _loss(network: nn.Module, read: Tensor, wanted: Tensor, state: State) -> tuple[Tensor, State]:
    """Mean cross-entropy on a piece, and the state after it, detached from the graph."""
    logits, after = network(read, state or None)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    return loss, {name: value.detach() for name, value in after.items()}


@torch.no_grad()
def text_loss(network: nn.Module, tokens: Tokens) -> float:
    """Mean cross-entropy on a text in evaluation mode, with ``PARTS`` parts of it read in parallel."""
    device = device_of(network)
    network.eval()
    total, count = 0.0, 0
    state: State = {}
    for read, wanted in pieces(tokens, PARTS, PIECE):
        loss, state = _loss(network, read.to(device), wanted.to(device), state)
        total, count = total + float(loss) * wanted.numel(), count + wanted.numel()
    return total / count


def check_text(topology: Topology, text: Text) -> None:
    """Check that a text fits a topology.

    Raises:
        KatibFlowError: the topology does not read the text's tokens, or does not predict them.
    """
    reads, predicts = topology.input.tokens, topology.output.classes
    if (reads, predicts) != (text.tokens, text.tokens):
        wanted = f"{f'{reads} tokens' if reads else 'images'} and predicts {predicts} classes"
        raise KatibFlowError(f"data: found a text of {text.tokens} different tokens, but the topology reads {wanted}")


def predict_trial(text: Text, settings: Mapping[str, Any], *, seed: int, threads: int) -> Iterator[dict[str, object]]:
    """Train a trial as ``predict`` does; ``settings`` are the fields of ``TextRecipe``."""
    recipe = TextRecipe(**settings)
    network = network_of_trial(lambda topology: check_text(topology, text), seed=seed, threads=threads)
    checkpoint = user.checkpoint_dir() / CHECKPOINT
    try:
        for epoch in train_text(network, text, recipe, seed=seed, checkpoint=checkpoint, stop=user.should_stop):
            metrics = {"perplexity": epoch.perplexity, "loss": epoch.valid_loss, "train_loss": epoch.train_loss}
            yield {"step": epoch.number, **metrics}
    finally:  # a trial that is stopped early saves its weights, too
        user.save_model(network)
    checkpoint.unlink(missing_ok=True)  # a child only needs the weights
