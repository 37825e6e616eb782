"""A recurrent controller: an LSTM that decides slot by slot, and learns from rewards.

Papers: Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017, section 3; Williams, "Simple
Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning 1992; Schulman et
al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, equation 7.

A decision is a token: the position of a slot's value, -1 where the slot is inactive. Arrays of tokens have shape
(sequence, slot). What was decided last is embedded and read by the LSTM; a linear map for each slot gives its logits.
All numbers are 64-bit, and one thread computes them, so that a controller comes to the same bits whenever it is taught
the same.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from katib_flow.nas.tokens import IsActive

Tokens = NDArray[np.intp]
State = tuple[Tensor, Tensor]
"""The (hidden, cell) states of the LSTM, shape (layer, sequence, unit)."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
P = TypeVar("P", bound=nn.Module)
L = TypeVar("L", bound="Learning[Any]")


@contextmanager
def one_thread() -> Generator[None]:
    """Sums are added in one order, whatever the number of processors; and nothing waits for cores that trials have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Shape:
    """What a policy is.

    Attributes:
        choices: how many values each slot has.
        units: of each layer of the LSTM.
        spread: the first weights are drawn evenly from -spread to spread.
        squash: logits become ``squash * tanh(logits / 5)`` (Bello et al., 2017; Pham et al., 2018); as they are without
            it.
    """

    choices: tuple[int, ...]
    units: int = 35
    layers: int = 2
    spread: float = 0.08
    squash: float | None = None


class Policy(nn.Module):
    """A distribution over sequences of decisions."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        slots, most, units = len(shape.choices), max(shape.choices), shape.units
        self.start = nn.Parameter(torch.empty(units))
        self.embedded = nn.Parameter(torch.empty(slots, most + 1, units))  # the first for an inactive slot
        self.core = nn.LSTM(units, units, shape.layers, batch_first=True)
        self.out = nn.Parameter(torch.empty(slots, units, most))
        self.bias = nn.Parameter(torch.empty(slots, most))
        self.there = torch.arange(most) < torch.tensor(shape.choices)[:, None]  # (slot, choice)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.uniform_(-shape.spread, shape.spread, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logarithms of the chances of every choice, given the decisions before it; shape (sequence, slot, choice)."""
        count, slots = tokens.shape
        before = self.embedded[torch.arange(slots - 1), tokens[:, :-1] + 1]
        hidden, _ = self.core(torch.cat([self.start.expand(count, 1, -1), before], dim=1))
        return self._log_chances(torch.einsum("nsu,suc->nsc", hidden, self.out) + self.bias, slice(None))

    def lean(self, biases: Sequence[Sequence[float]]) -> None:
        """Begin with logits for the choices of each slot."""
        with torch.no_grad():
            for slot, bias in enumerate(biases):
                self.bias[slot, : len(bias)] = torch.as_tensor(bias)

    def log_probability(self, tokens: Tensor) -> Tensor:
        """Of each decision, 0 where there was none; shape (sequence, slot)."""
        return chosen(self(tokens), tokens)

    def sample(self, rng: np.random.Generator, count: int = 1, is_active: IsActive = lambda *_: True) -> Tokens:
        """Decide ``count`` times on every slot, one after the other."""
        tokens = np.full((count, len(self.shape.choices)), -1)
        read, state = self.start.expand(count, 1, -1), None
        with torch.inference_mode():
            for slot in range(tokens.shape[1]):
                hidden, state = self._step(read, state)
                chances = self._log_chances(hidden @ self.out[slot] + self.bias[slot], slot).exp().numpy()
                drawn, before = rng.random(count), tokens[:, :slot].tolist()
                for row in range(count):
                    if is_active(row, slot, before[row]):
                        place = int(np.searchsorted(np.cumsum(chances[row]), drawn[row], side="right"))
                        tokens[row, slot] = min(place, self.shape.choices[slot] - 1)
                read = self.embedded[slot, torch.from_numpy(tokens[:, slot] + 1)][:, None]
        return tokens

    def _step(self, read: Tensor, state: State | None) -> tuple[Tensor, State]:
        """What the LSTM gives after one more decision, shape (sequence, unit), and its states."""
        hidden, after = self.core(read, state)
        return hidden[:, 0], after

    def _log_chances(self, logits: Tensor, slots: int | slice) -> Tensor:
        if self.shape.squash is not None:
            logits = self.shape.squash * torch.tanh(logits / 5)
        return logits.masked_fill(~self.there[slots], -math.inf).log_softmax(dim=-1)


def chosen(logs: Tensor, tokens: Tensor) -> Tensor:
    """What an array of shape (sequence, slot, choice) has at tokens, 0 where there are none; shape (sequence, slot)."""
    taken = logs.gather(2, tokens.clamp(min=0)[:, :, None])[:, :, 0]
    return torch.where(tokens >= 0, taken, 0.0)


class Rule(Protocol):
    """What a policy learns by.

    Attributes:
        epochs: steps along each batch.
    """

    @property
    def epochs(self) -> int: ...

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """What is maximised of each decision.

        Args:
            now, before: logarithms of its chance, as it is and as it was when the batch came; shape (sequence, slot).
            advantage: by how much the reward was better than expected, shape (sequence, 1).
        """
        ...


@dataclass(frozen=True)
class Reinforce:
    """The score function: its mean gradient is that of the expected reward (Williams, 1992)."""

    epochs: int = 1

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        return advantage * now


@dataclass(frozen=True)
class PPO:
    """The clipped surrogate (Schulman et al., equation 7): nothing is gained by going further than ``clip``."""

    epochs: int = 4
    clip: float = 0.2

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        ratio = (now - before).exp()
        return torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)


@dataclass(frozen=True)
class Teaching:
    """How a controller learns.

    Attributes:
        lr: learning rate of Adam.
        decay: of the baseline, an exponential moving mean of earlier rewards; the first rewards are their own.
        entropy: weight of the entropy of each decision in what is maximised.
        wanted: slots, with the distribution that each is drawn towards and how strongly: the weight of the divergence
            KL(policy, wanted) that is subtracted (Pham et al., 2018: skip connections).
    """

    lr: float
    decay: float
    rule: Rule = Reinforce()
    entropy: float = 0.0
    wanted: tuple[tuple[int, tuple[float, ...], float], ...] = ()


class Learning(Generic[P]):
    """A policy that learns by Adam from rewards, of which a baseline is subtracted.

    Attributes:
        baseline: moving mean of the rewards; NaN before the first.
    """

    def __init__(self, policy: P, lr: float, decay: float) -> None:
        self.policy, self.decay = policy, decay
        self.baseline = math.nan
        self._adam = Adam(policy, lr)

    def advantages(self, rewards: NDArray[np.float64]) -> Tensor:
        """By how much rewards are better than the baseline, which then moves towards their mean; shape (sequence,)."""
        mean = float(rewards.mean())
        baseline = mean if math.isnan(self.baseline) else self.baseline
        self.baseline = self.decay * baseline + (1 - self.decay) * mean
        return torch.from_numpy(rewards - baseline)

    def ascend(self, objective: Tensor) -> None:
        """Take a step up along the slope of what is maximised."""
        self.policy.zero_grad()
        objective.backward()
        self._adam.step()

    @one_thread()
    def state(self) -> dict[str, Tensor]:
        """All that it has learnt, by name, for ``restore``."""
        counts = {"baseline": self.baseline, "steps": float(self._adam.steps)}
        kept = {name: torch.tensor(count, dtype=torch.float64) for name, count in counts.items()}
        for kind, tensors in self._tensors().items():
            kept |= {f"{kind}/{name}": tensor.detach().clone() for name, tensor in tensors.items()}
        return kept

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"weight": self._adam.weights, "first": self._adam.first, "second": self._adam.second}

    @one_thread()
    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on from what a policy of the same shape had learnt.

        Raises:
            ValueError: it is not the state of such a policy.
        """
        now = self.state()
        if unlike := [name for name in now.keys() | kept.keys() if not _alike(name, now.get(name), kept.get(name))]:
            raise ValueError(f"not the state of this controller: {', '.join(sorted(unlike))}")
        self.baseline, self._adam.steps = float(kept["baseline"]), int(kept["steps"])
        with torch.no_grad():
            for kind, tensors in self._tensors().items():
                for name, tensor in tensors.items():
                    tensor.copy_(kept[f"{kind}/{name}"])


class Controller(Learning[Policy]):
    """A policy over sequences of decisions that learns."""

    @one_thread()
    def __init__(self, shape: Shape, teaching: Teaching, seed: int) -> None:
        super().__init__(Policy(shape, seed), teaching.lr, teaching.decay)
        self.teaching = teaching

    def sample(self, rng: np.random.Generator, count: int = 1, is_active: IsActive = lambda *_: True) -> Tokens:
        """Decide ``count`` times on every slot, one after the other; shape (sequence, slot)."""
        with one_thread():
            return self.policy.sample(rng, count, is_active)

    def learn(self, tokens: Tokens, rewards: NDArray[np.float64]) -> None:
        """Take a batch of sequences and their rewards in: a step of Adam for each epoch."""
        advantage, decided = self.advantages(rewards)[:, None], torch.from_numpy(tokens)
        with one_thread():
            with torch.no_grad():
                before = self.policy.log_probability(decided)
            for _ in range(self.teaching.rule.epochs):
                self.ascend(self.objective(decided, before, advantage))

    def objective(self, tokens: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The mean over sequences of what is maximised."""
        logs = self.policy(tokens)
        gain = self.teaching.rule.objective(chosen(logs, tokens), before, advantage)
        return ((gain + self._regular(logs)) * (tokens >= 0)).sum(dim=1).mean()

    def _regular(self, logs: Tensor) -> Tensor:
        """Entropy, less the divergence from what is wanted; shape (sequence, slot)."""
        shares, logs = logs.exp(), logs.masked_fill(~self.policy.there, 0.0)  # 0 log 0 = 0
        regular = -self.teaching.entropy * (shares * logs).sum(dim=2)
        for slot, wanted, weight in self.teaching.wanted:
            count = len(wanted)
            apart = logs[:, slot, :count] - torch.tensor(wanted, dtype=torch.float64).log()
            regular = regular - weight * (shares[:, slot, :count] * apart).sum(dim=1)[:, None] * _at(slot, logs)
        return regular


class Adam:
    """Kingma and Ba, "Adam", ICLR 2015, Algorithm 1, uphill: torch's own imports its compiler, which takes a second.

    Attributes:
        first, second: moments of each weight; ``steps`` how many gradients they come from.
    """

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.weights: dict[str, Tensor] = dict(model.named_parameters())
        self.first = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        self.second = {name: moment.clone() for name, moment in self.first.items()}
        self.lr, self.steps = lr, 0

    def step(self) -> None:
        self.steps += 1
        rate, root = self.lr / (1 - BETA1**self.steps), math.sqrt(1 - BETA2**self.steps)
        with torch.no_grad():
            for name, weight in self.weights.items():
                if weight.grad is not None:
                    first = self.first[name].lerp_(weight.grad, 1 - BETA1)
                    second = self.second[name].mul_(BETA2).addcmul_(weight.grad, weight.grad, value=1 - BETA2)
                    weight.addcdiv_(first, second.sqrt() / root + EPSILON, value=rate)


def packed(controller: Learning[Any]) -> bytes:
    """All that a controller has learnt, as safetensors."""
    return save(controller.state())


def unpacked(controller: L, content: bytes) -> L:
    """A new controller, once it has learnt what another one of its shape had.

    Raises:
        ValueError: the content is not the state of such a controller.
    """
    controller.restore(tensors_of(content))
    return controller


def tensors_of(content: bytes) -> dict[str, Tensor]:
    """The tensors of some safetensors, by name.

    Raises:
        ValueError: the content is none.
    """
    try:
        return load(content)
    except (SafetensorError, KeyError, TypeError, OverflowError) as error:  # KeyError: a type that torch has not
        raise ValueError(f"no safetensors: {error}") from error


def _at(slot: int, logs: Tensor) -> Tensor:
    """1 at a slot, 0 at the others."""
    return (torch.arange(logs.shape[1]) == slot).double()


def _alike(name: str, one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return name == "baseline" or bool(other.isfinite().all() and (name != "steps" or other >= 0))
