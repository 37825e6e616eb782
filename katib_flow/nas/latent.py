"""An encoder, a predictor and a decoder: sequences of decisions as points of a continuous space, to move uphill in.

Paper: Luo et al., "Neural Architecture Optimization", NeurIPS 2018, section 3: an LSTM encodes a sequence of tokens as
its hidden states, a predictor maps their mean to the performance of the network, and a decoder with attention turns
such states into a sequence. The three are trained together on the networks with a known result.

A decision is a token: the position of a slot's value, -1 if the slot is inactive. All numbers are 64-bit, and one
thread computes them, so that the same data give the same model, bit for bit.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from katib_flow.nas.controller import Adam, Tokens, chosen, one_thread, tensors_of
from katib_flow.nas.tokens import IsActive

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """The shape of a model.

    Attributes:
        choices: number of values of each slot.
        embedding: size of the embedding of a token.
        hidden: size of the states of both LSTMs, and of the hidden layer of the predictor.
    """

    choices: tuple[int, ...]
    embedding: int = 32
    hidden: int = 96


class LatentModel(nn.Module):
    """The encoder, the predictor and the decoder; every value of every slot has an embedding of its own."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape, hidden = shape, shape.hidden
        slots, most = len(shape.choices), max(shape.choices)
        self.embedded = nn.Parameter(
            torch.empty(slots, most + 1, shape.embedding)
        )  # position 0 is that of an inactive slot
        self.start = nn.Parameter(torch.empty(shape.embedding))
        self.encoder = nn.LSTM(shape.embedding, hidden, batch_first=True)
        self.predictor = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.decoder = nn.LSTM(shape.embedding, hidden, batch_first=True)
        self.join = nn.Linear(2 * hidden, hidden)
        self.out = nn.Parameter(torch.empty(slots, hidden, most))
        self.valid = torch.arange(most) < torch.tensor(shape.choices)[:, None]  # (slot, choice)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                spread = 1 / math.sqrt(hidden)
                weight.uniform_(-spread, spread, generator=generator)

    def encode(self, tokens: Tensor, drop: float = 0.0) -> Tensor:
        """The state of each decision, of unit length; shape (sequence, slot, hidden).

        Args:
            tokens: shape (sequence, slot).
            drop: the probability of dropout on the embeddings.
        """
        states, _ = self.encoder(dropout(self._embed(tokens), drop, training=drop > 0))
        return normalize(states, dim=2)

    def predict(self, states: Tensor) -> Tensor:
        """Predicted performance, from 0 to 1; shape (sequence, slot, hidden) -> (sequence,)."""
        return torch.sigmoid(self.predictor(states.mean(dim=1)))[:, 0]

    def log_chances(self, states: Tensor, tokens: Tensor, drop: float = 0.0) -> Tensor:
        """Log probabilities of all choices, given the decisions before them; shape (sequence, slot, choice)."""
        before = torch.cat([self.start.expand(len(tokens), 1, -1), self._embed(tokens)[:, :-1]], dim=1)
        written, _ = self.decoder(dropout(before, drop, training=drop > 0), self._begin(states))
        return self._choices(self._attended(written, states), slice(None))

    def decode(self, states: Tensor, is_active: IsActive = lambda *_: True) -> Tokens:
        """The most likely decision for one slot after another; shape (sequence, slot)."""
        tokens = np.full((len(states), len(self.shape.choices)), -1)
        with torch.no_grad(), one_thread():
            read, memory = self.start.expand(len(states), 1, -1), self._begin(states)
            for slot in range(tokens.shape[1]):
                written, memory = self.decoder(read, memory)
                likeliest = self._choices(self._attended(written, states)[:, 0], slot).argmax(dim=1).numpy()
                for row in range(len(tokens)):
                    if is_active(row, slot, tokens[row, :slot].tolist()):
                        tokens[row, slot] = likeliest[row]
                read = self.embedded[slot, torch.from_numpy(tokens[:, slot] + 1)][:, None]
        return tokens

    def improved(self, tokens: Tokens, step: float) -> Tensor:
        """The states of some sequences after a step of gradient ascent on the prediction (section 3.3, equation 4)."""
        with one_thread(), torch.enable_grad():
            states = self.encode(torch.from_numpy(tokens)).detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.predict(states).sum(), states)
            return normalize(states.detach() + step * slope, dim=2)

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedded[torch.arange(tokens.shape[1]), tokens + 1]

    def _begin(self, states: Tensor) -> tuple[Tensor, Tensor]:
        mean = states.mean(dim=1)[None].contiguous()
        return mean, torch.zeros_like(mean)

    def _attended(self, written: Tensor, states: Tensor) -> Tensor:
        weights = (written @ states.transpose(1, 2)).softmax(dim=2)
        return torch.tanh(self.join(torch.cat([weights @ states, written], dim=2)))

    def _choices(self, hidden: Tensor, slots: int | slice) -> Tensor:
        how = "nsh,shc->nsc" if isinstance(slots, slice) else "nh,hc->nc"
        logits = torch.einsum(how, hidden, self.out[slots])
        return logits.masked_fill(~self.valid[slots], -math.inf).log_softmax(dim=-1)


@dataclass(frozen=True)
class Fit:
    """How a model is trained.

    Attributes:
        steps: number of steps of Adam, each on all sequences.
        lr: learning rate of Adam.
        balance: weight of the predictor's squared error; 1 - balance is that of the mean log likelihood of a decision.
        drop: probability of dropout on the embeddings during training.
    """

    steps: int = 200
    lr: float = 0.005
    balance: float = 0.9
    drop: float = 0.1


def fit(model: LatentModel, batches: Iterator[Tokens], scores: Floats, how: Fit, seed: int) -> None:
    """Train a model in place (section 3.2, equation 3).

    Args:
        batches: for each step all sequences, shape (sequence, slot), each in one of its equivalent forms.
        scores: the performance of the networks, from 0 to 1, shape (sequence,).
    """
    wanted, adam = torch.from_numpy(scores), Adam(model, how.lr)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # and not those of the GPUs
        for _ in range(how.steps):
            tokens = torch.from_numpy(next(batches))
            states = model.encode(tokens, how.drop)
            error = ((model.predict(states) - wanted) ** 2).mean()
            likely = chosen(model.log_chances(states, tokens, how.drop), tokens).sum() / (tokens >= 0).sum()
            model.zero_grad()
            ((1 - how.balance) * likely - how.balance * error).backward()
            adam.step()


def twins(names: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of the slots for the two inputs of each node: ``2.in0`` with ``2.in1``, ``2.op0`` with ``2.op1``."""
    positions = {name: position for position, name in enumerate(names)}
    ends = ((name, re.sub(r"(in|op)0$", r"\g<1>1", name)) for name in names)
    return [(positions[one], positions[other]) for one, other in ends if one != other and other in positions]


def written_otherwise(tokens: Tokens, names: Sequence[str], seed: int) -> Iterator[Tokens]:
    """Endless equivalent forms of some networks: the two inputs of each node are exchanged at random."""
    rng, nodes = np.random.default_rng(seed), dict[str, list[tuple[int, int]]]()
    for one, other in twins(names):
        nodes.setdefault(names[one].rpartition(".")[0], []).append((one, other))
    while True:
        other_way = tokens.copy()
        for pairs in nodes.values():
            rows = rng.random(len(tokens)) < 0.5
            for one, other in pairs:
                other_way[rows, one], other_way[rows, other] = tokens[rows, other], tokens[rows, one]
        yield other_way


def packed(model: LatentModel | None, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The weights of a model, if there is one, and some arrays as safetensors."""
    weights = {} if model is None else {f"weight/{name}": weight for name, weight in model.state_dict().items()}
    return save({**weights, **{name: torch.from_numpy(array) for name, array in arrays.items()}})


def unpacked(model: LatentModel, content: bytes) -> tuple[LatentModel | None, dict[str, NDArray[Any]]]:
    """The inverse of ``packed``: the weights are loaded into a model of the same shape.

    Raises:
        ValueError: the content is not valid safetensors, or its weights do not fit the model.
    """
    kept = tensors_of(content)
    weights = {name.removeprefix("weight/"): kept[name] for name in kept if name.startswith("weight/")}
    arrays = {name: tensor.numpy() for name, tensor in kept.items() if not name.startswith("weight/")}
    if not weights:
        return None, arrays
    now = model.state_dict()
    if now.keys() != weights.keys() or any(not _alike(now[name], weights[name]) for name in now):
        raise ValueError("not the weights of this model")
    model.load_state_dict(weights)
    return model, arrays


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool(other.isfinite().all())
