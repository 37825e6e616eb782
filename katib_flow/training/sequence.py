"""Train a recurrent network to predict the next token of a text; deterministic on a CPU.

A text is cut into as many parts as a batch has sequences, read side by side. The gradient goes back over ``length``
tokens and no further, while the state goes on (truncated backpropagation through time; Werbos, 1990). Where the first
piece of an epoch begins depends on the seed and the epoch alone, so a run that is stopped anywhere and goes on from its
checkpoint gives the bits of one that was not.
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
PARTS, PIECE = 50, 100  # into which a text is cut to be judged by, and tokens of it that are read at once


@dataclass(frozen=True, kw_only=True)
class TextRecipe:
    """How to train.

    Attributes:
        batch: sequences that are read side by side; ``steps`` ends training after so many steps of the optimiser.
        length: tokens over which the gradient goes back.
        lr: of Adam (Kingma and Ba, ICLR 2015) at the start; it falls to ``lr_end`` along half a cosine over all steps.
        clip: largest norm of the gradient (Pascanu et al., ICML 2013); None for any.
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
            KatibFlowError: a number is none that there can be so many of.
        """
        for name in ("epochs", "batch", "length"):
            if getattr(self, name) < 1:
                raise KatibFlowError(f"{name}: found {getattr(self, name)}, need 1 or more")


@dataclass(frozen=True)
class TextEpoch:
    """What an epoch, numbered from 1, came to: mean cross-entropies in nats for a token."""

    number: int
    train_loss: float
    valid_loss: float

    @property
    def perplexity(self) -> float:
        """Of the validation text: the number of tokens among which an even choice would be as hard."""
        return perplexity(self.valid_loss)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is too large for a float."""
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
    """Train a network in place, an epoch each time the iterator is asked.

    Args:
        network: tokens, shape (sequence, token), and a state -> logits, shape (sequence, token, class), and a state.
        checkpoint: file to go on from, where it exists, and to write after every epoch.
        stop: asked between steps; training ends with the epoch as far as it came.
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
        if checkpoint is not None and whole:  # now: who goes on from it does not report this epoch again
            save_checkpoint(checkpoint, network, optimiser, None, number)
        if stop():
            return


def pieces(tokens: Tokens, batch: int, length: int, offset: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """A text in parts side by side, piece by piece: tokens and the token after each, both of shape (part, token).

    Args:
        batch: parts; fewer of a text that has not two tokens for each.
        length: of a piece; the last may be shorter.
        offset: tokens of each part that are left out at its beginning, as far as there are any.
    """
    parts = max(1, min(batch, len(tokens) // 2))
    long = len(tokens) // parts
    rows = torch.from_numpy(tokens[: parts * long].reshape(parts, long))
    for start in range(min(offset, long - 2), long - 1, length):
        end = min(start + length, long - 1)
        yield rows[:, start:end], rows[:, start + 1 : end + 1]


def _loss(network: nn.Module, read: Tensor, wanted: Tensor, state: State) -> tuple[Tensor, State]:
    """Mean cross-entropy of a piece, and the state after it, through which no gradient goes back."""
    logits, after = network(read, state or None)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
    return loss, {name: value.detach() for name, value in after.items()}


@torch.no_grad()
def text_loss(network: nn.Module, tokens: Tokens) -> float:
    """Mean cross-entropy on a text, the network in evaluation mode, ``PARTS`` parts of it read side by side."""
    device = device_of(network)
    network.eval()
    total, count = 0.0, 0
    state: State = {}
    for read, wanted in pieces(tokens, PARTS, PIECE):
        loss, state = _loss(network, read.to(device), wanted.to(device), state)
        total, count = total + float(loss) * wanted.numel(), count + wanted.numel()
    return total / count


def check_text(topology: Topology, text: Text) -> None:
    """Raise KatibFlowError where the text is not one that the topology takes."""
    reads, gives = topology.input.tokens, topology.output.classes
    if (reads, gives) != (text.tokens, text.tokens):
        wanted = f"{gives} classes of {f'{reads} tokens' if reads else 'images'}"
        raise KatibFlowError(f"data: found a text of {text.tokens} tokens; the topology gives {wanted}")


def predict_trial(text: Text, settings: Mapping[str, Any], *, seed: int, threads: int) -> Iterator[dict[str, object]]:
    """See ``predict``; ``settings`` are the fields of ``TextRecipe``."""
    recipe = TextRecipe(**settings)
    network = network_of_trial(lambda topology: check_text(topology, text), seed=seed, threads=threads)
    checkpoint = user.checkpoint_dir() / CHECKPOINT
    try:
        for epoch in train_text(network, text, recipe, seed=seed, checkpoint=checkpoint, stop=user.should_stop):
            metrics = {"perplexity": epoch.perplexity, "loss": epoch.valid_loss, "train_loss": epoch.train_loss}
            yield {"step": epoch.number, **metrics}
    finally:  # a trial that is ended early keeps what it has learnt
        user.save_model(network)
    checkpoint.unlink(missing_ok=True)  # what a child needs are the weights
