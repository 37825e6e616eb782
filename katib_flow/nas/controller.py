"""A recurrent controller: an LSTM that chooses the value of one slot after another, and learns from rewards.

Papers: Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017, section 3; Williams, "Simple
Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning 1992; Schulman et
al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, equation 7.

A decision is a token: the position of a slot's value, -1 if the slot is inactive. Arrays of tokens have shape
(sequence, slot). The LSTM reads an embedding of the last decision; a linear map for each slot gives its logits. All
numbers are 64-bit, and one thread computes them, so that the same lessons give the same controller, bit for bit.
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
    """A context in which torch computes in one thread.

    Sums then do not depend on the number of processors, and the trials keep their cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Shape:
    """The shape of a policy, and its initial weights.

    Attributes:
        choices: number of values of each slot.
        units: number of units of each layer of the LSTM.
        layers: number of layers of the LSTM.
        spread: the initial weights are uniform between -spread and spread.
        squash: if given, logits become ``squash * tanh(logits / 5)`` (Bello et al., 2017; Pham et al., 2018).
    """

    choices: tuple[int, ...]
    units: int = 35
    layers: int = 2
    spread: float = 0.08
    squash: float | None = None


class Policy(nn.Module):
    """A distribution over sequences of decisions, one per slot."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        slots, most, units = len(shape.choices), max(shape.choices), shape.units
        self.start = nn.Parameter(torch.empty(units))
        self.embedded = nn.Parameter(torch.empty(slots, most + 1, units))  # position 0 is that of an inactive slot
        self.core = nn.LSTM(units, units, shape.layers, batch_first=True)
        self.out = nn.Parameter(torch.empty(slots, units, most))
        self.bias = nn.Parameter(torch.empty(slots, most))
        self.valid = torch.arange(most) < torch.tensor(shape.choices)[:, None]  # (slot, choice)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.uniform_(-shape.spread, shape.spread, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Log probabilities of all choices, given the decisions before them; shape (sequence, slot, choice)."""
        count, slots = tokens.shape
        before = self.embedded[torch.arange(slots - 1), tokens[:, :-1] + 1]
        hidden, _ = self.core(torch.cat([self.start.expand(count, 1, -1), before], dim=1))
        return self._log_chances(torch.einsum("nsu,suc->nsc", hidden, self.out) + self.bias, slice(None))

    def lean(self, biases: Sequence[Sequence[float]]) -> None:
        """Set the biases of the logits, to begin with a preference.

        Args:
            biases: for each slot, a number for each choice.
        """
        with torch.no_grad():
            for slot, bias in enumerate(biases):
                self.bias[slot, : len(bias)] = torch.as_tensor(bias)

    def log_probability(self, tokens: Tensor) -> Tensor:
        """Log probability of each decision, 0 for inactive slots; shape (sequence, slot)."""
        return chosen(self(tokens), tokens)

    def sample(self, rng: np.random.Generator, count: int = 1, is_active: IsActive = lambda *_: True) -> Tokens:
        """Draw ``count`` sequences, slot by slot; shape (count, slot)."""
        tokens = np.full((count, len(self.shape.choices)), -1)
        read, state = self.start.expand(count, 1, -1), None
        with torch.inference_mode():
            for slot in range(tokens.shape[1]):
                hidden, state = self._step(read, state)
                chances = self._log_chances(hidden @ self.out[slot] + self.bias[slot], slot).exp().numpy()
                drawn, before = rng.random(count), tokens[:, :slot].tolist()
                for row in range(count):
                    if is_active(row, slot, before[row]):
                        position = int(np.searchsorted(np.cumsum(chances[row]), drawn[row], side="right"))
                        tokens[row, slot] = min(position, self.shape.choices[slot] - 1)
                read = self.embedded[slot, torch.from_numpy(tokens[:, slot] + 1)][:, None]
        return tokens

    def _step(self, read: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The output of the LSTM after one more decision, shape (sequence, unit), and its states."""
        hidden, after = self.core(read, state)
        return hidden[:, 0], after

    def _log_chances(self, logits: Tensor, slots: int | slice) -> Tensor:
        if self.shape.squash is not None:
            logits = self.shape.squash * torch.tanh(logits / 5)
        return logits.masked_fill(~self.valid[slots], -math.inf).log_softmax(dim=-1)


def chosen(logs: Tensor, tokens: Tensor) -> Tensor:
    """The entries of an array (sequence, slot, choice) at some tokens, 0 for inactive slots; shape (sequence, slot)."""
    taken = logs.gather(2, tokens.clamp(min=0)[:, :, None])[:, :, 0]
    return torch.where(tokens >= 0, taken, 0.0)


class Rule(Protocol):
    """The learning rule of a policy."""

    @property
    def epochs(self) -> int:
        """Number of gradient steps on each batch."""
        ...

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The quantity to maximise, for each decision; shape (sequence, slot).

        Args:
            now, before: log probability of each decision under the current policy, and under the policy before the
                first step on this batch; shape (sequence, slot).
            advantage: the reward minus its baseline, shape (sequence, 1).
        """
        ...


@dataclass(frozen=True)
class Reinforce:
    """The score function estimator: its expected gradient is that of the expected reward (Williams, 1992)."""

    epochs: int = 1

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The log probability, weighted by the advantage."""
        return advantage * now


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimisation: steps beyond a ratio of 1 +/- ``clip`` gain nothing."""

    epochs: int = 4
    clip: float = 0.2

    def objective(self, now: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The clipped surrogate objective (Schulman et al., equation 7)."""
        ratio = (now - before).exp()
        return torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)


@dataclass(frozen=True)
class Teaching:
    """How a controller learns.

    Attributes:
        lr: learning rate of Adam.
        decay: decay of the baseline, an exponential moving mean of earlier rewards; the baseline of the first batch is
            its own mean.
        rule: the learning rule.
        entropy: weight of the entropy of each decision in the objective.
        wanted: slots whose distribution is pulled towards a target: (slot, target, weight) subtracts
            weight * KL(policy, target) from the objective (Pham et al., 2018, for skip connections).
    """

    lr: float
    decay: float
    rule: Rule = Reinforce()
    entropy: float = 0.0
    wanted: tuple[tuple[int, tuple[float, ...], float], ...] = ()


class Learning(Generic[P]):
    """A policy that learns from rewards, minus a baseline, by Adam.

    Attributes:
        baseline: moving mean of the rewards; NaN before the first.
    """

    def __init__(self, policy: P, lr: float, decay: float) -> None:
        self.policy, self.decay = policy, decay
        self.baseline = math.nan
        self._adam = Adam(policy, lr)

    def advantages(self, rewards: NDArray[np.float64]) -> Tensor:
        """Rewards minus the baseline, which is then updated by their mean; shape (sequence,)."""
        mean = float(rewards.mean())
        baseline = mean if math.isnan(self.baseline) else self.baseline
        self.baseline = self.decay * baseline + (1 - self.decay) * mean
        return torch.from_numpy(rewards - baseline)

    def ascend(self, objective: Tensor) -> None:
        """Take one step of gradient ascent on an objective."""
        self.policy.zero_grad()
        objective.backward()
        self._adam.step()

    @one_thread()
    def state(self) -> dict[str, Tensor]:
        """The weights, the moments of Adam and the baseline by name, for ``restore``."""
        counts = {"baseline": self.baseline, "steps": float(self._adam.steps)}
        kept = {name: torch.tensor(count, dtype=torch.float64) for name, count in counts.items()}
        for kind, tensors in self._tensors().items():
            kept |= {f"{kind}/{name}": tensor.detach().clone() for name, tensor in tensors.items()}
        return kept

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"weight": self._adam.weights, "first": self._adam.first, "second": self._adam.second}

    @one_thread()
    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Load the state of a policy of the same shape.

        Raises:
            ValueError: names, shapes or types of the tensors differ, or numbers are not finite.
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
    """A learning policy over sequences of decisions."""

    @one_thread()
    def __init__(self, shape: Shape, teaching: Teaching, seed: int) -> None:
        super().__init__(Policy(shape, seed), teaching.lr, teaching.decay)
        self.teaching = teaching

    def sample(self, rng: np.random.Generator, count: int = 1, is_active: IsActive = lambda *_: True) -> Tokens:
        """Draw ``count`` sequences, slot by slot; shape (count, slot)."""
        with one_thread():
            return self.policy.sample(rng, count, is_active)

    def learn(self, tokens: Tokens, rewards: NDArray[np.float64]) -> None:
        """Learn from a batch: ``epochs`` steps of Adam.

        Args:
            tokens: shape (sequence, slot).
            rewards: shape (sequence,).
        """
        advantage, decided = self.advantages(rewards)[:, None], torch.from_numpy(tokens)
        with one_thread():
            with torch.no_grad():
                before = self.policy.log_probability(decided)
            for _ in range(self.teaching.rule.epochs):
                self.ascend(self.objective(decided, before, advantage))

    def objective(self, tokens: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
        """The quantity to maximise: a sum over decisions, and the mean over sequences."""
        logs = self.policy(tokens)
        gain = self.teaching.rule.objective(chosen(logs, tokens), before, advantage)
        return ((gain + self._regular(logs)) * (tokens >= 0)).sum(dim=1).mean()

    def _regular(self, logs: Tensor) -> Tensor:
        """The entropy bonus minus the weighted divergence from the targets; shape (sequence, slot)."""
        shares, logs = logs.exp(), logs.masked_fill(~self.policy.valid, 0.0)  # 0 log 0 = 0
        regular = -self.teaching.entropy * (shares * logs).sum(dim=2)
        for slot, wanted, weight in self.teaching.wanted:
            count = len(wanted)
            apart = logs[:, slot, :count] - torch.tensor(wanted, dtype=torch.float64).log()
            regular = regular - weight * (shares[:, slot, :count] * apart).sum(dim=1)[:, None] * _at(slot, logs)
        return regular


class Adam:
    """Gradient ascent by Adam (Kingma and Ba, ICLR 2015, Algorithm 1).

    The optimiser of torch is not used because it imports torch's compiler, which takes a second.

    Attributes:
        first, second: the moments of each weight.
        steps: number of gradients in the moments.
    """

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.weights: dict[str, Tensor] = dict(model.named_parameters())
        self.first = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self.weights.items()}
        self.second = {name: moment.clone() for name, moment in self.first.items()}
        self.lr, self.steps = lr, 0

    def step(self) -> None:
        """Update the weights by their gradients; weights without a gradient stay as they are."""
        self.steps += 1
        rate, root = self.lr / (1 - BETA1**self.steps), math.sqrt(1 - BETA2**self.steps)
        with torch.no_grad():
            for name, weight in self.weights.items():
                if weight.grad is not None:
                    first = self.first[name].lerp_(weight.grad, 1 - BETA1)
                    second = self.second[name].mul_(BETA2).addcmul_(weight.grad, weight.grad, value=1 - BETA2)
                    weight.addcdiv_(first, second.sqrt() / root + EPSILON, value=rate)


def packed(controller: Learning[Any]) -> bytes:
    """The state of a controller as safetensors."""
    return save(controller.state())


def unpacked(controller: L, content: bytes) -> L:
    """Load packed state into a new controller of the same shape, and return it.

    Raises:
        ValueError: the content is not the state of such a controller.
    """
    controller.restore(tensors_of(content))
    return controller


def tensors_of(content: bytes) -> dict[str, Tensor]:
    """Read safetensors: the tensors by name.

    Raises:
        ValueError: the content is not valid safetensors.
    """
    try:
        return load(content)
    except (SafetensorError, KeyError, TypeError, OverflowError) as error:  # KeyError: a type that torch does not have
        raise ValueError(f"not valid safetensors: {error}") from error


def _at(slot: int, logs: Tensor) -> Tensor:
    """1 at a slot, 0 at the others; shape (slot,)."""
    return (torch.arange(logs.shape[1]) == slot).double()


def _alike(name: str, one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return name == "baseline" or bool(other.isfinite().all() and (name != "steps" or other >= 0))
