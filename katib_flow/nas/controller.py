"""A recurrent controller: an LSTM that decides slot by slot, taught by REINFORCE.

Papers: Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017, section 3; Williams, "Simple
Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning 1992; Adam after
Kingma and Ba, ICLR 2015. In NumPy, because a step that only suggests needs no torch.

A decision is a token: the position of a slot's value, -1 where the slot is inactive. Arrays of tokens have shape
(sequence, slot). What was decided last is embedded and read by the LSTM; a linear map for each slot gives its logits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tokens = NDArray[np.intp]
Weights = Mapping[str, Array]
State = list[tuple[Array, Array]]
"""The (hidden, cell) states of each layer, shape (sequence, unit)."""
Kept = tuple[Array, Array, Array, Array, Array, Array, Array]
"""What a layer computed in a step, for the way back."""
IsActive = Callable[[int, Sequence[int]], bool]
"""Whether a slot, by its position, is active after the tokens of the slots before it."""


@dataclass(frozen=True)
class Shape:
    """What a controller is.

    Attributes:
        choices: how many values each slot has.
        units: of each layer of the LSTM.
        squash: logits become ``squash * tanh(logits / 5)`` (Bello et al., 2017; Pham et al., 2018); as they are without
            it.
        entropy: weight of the entropy of each decision in what is maximised.
        wanted: slots, with the distribution that each is drawn towards and how strongly: the weight of the divergence
            KL(policy, wanted) that is subtracted (Pham et al., 2018: skip connections).
    """

    choices: tuple[int, ...]
    units: int = 35
    layers: int = 2
    spread: float = 0.08
    squash: float | None = None
    entropy: float = 0.0
    wanted: tuple[tuple[int, tuple[float, ...], float], ...] = ()


@dataclass(frozen=True)
class Controller:
    """A policy over sequences of decisions. Nothing changes in place: ``learnt`` gives another one.

    Attributes:
        baseline: moving mean of the rewards; NaN before the first.
        first, second: Adam's moments of each weight; ``steps`` how many updates they come from.
    """

    shape: Shape
    weights: Weights
    first: Weights
    second: Weights
    steps: int = 0
    baseline: float = float("nan")

    @classmethod
    def drawn(cls, shape: Shape, rng: np.random.Generator) -> "Controller":
        """A controller with weights drawn evenly from -spread to spread."""
        units = shape.units
        sizes: dict[str, tuple[int, ...]] = {"start": (units,)}
        for layer in range(shape.layers):
            sizes |= {f"lstm{layer}": (2 * units, 4 * units), f"bias{layer}": (4 * units,)}
        for slot, count in enumerate(shape.choices):
            sizes |= {f"out{slot}": (units, count), f"outbias{slot}": (count,), f"embed{slot}": (count + 1, units)}
        weights = {name: rng.uniform(-shape.spread, shape.spread, size) for name, size in sizes.items()}
        nothing = {name: np.zeros(size) for name, size in sizes.items()}
        return cls(shape, weights, nothing, nothing)

    def sample(self, rng: np.random.Generator, is_active: IsActive = lambda slot, before: True) -> tuple[int, ...]:
        """Decide on every slot, one after the other."""
        tokens: list[int] = []
        state, read = _at_rest(self.shape, 1), self.weights["start"][None]
        for slot in range(len(self.shape.choices)):
            hidden, state, _ = self._step(read, state)
            token = -1
            if is_active(slot, tokens):
                chances = softmax(self._logits(slot, hidden))[0]
                token = min(int(np.searchsorted(np.cumsum(chances), rng.random(), side="right")), len(chances) - 1)
            tokens.append(token)
            read = self.weights[f"embed{slot}"][[token + 1]]
        return tuple(tokens)

    def log_probability(self, tokens: Tokens) -> Array:
        """Of each sequence, shape (sequence,)."""
        total = np.zeros(len(tokens))
        for slot, (hidden, _) in enumerate(self._read(tokens)):
            chances, decided = softmax(self._logits(slot, hidden)), tokens[:, slot] >= 0
            total += np.where(decided, np.log(chances[np.arange(len(tokens)), tokens[:, slot]]), 0.0)
        return total

    def gradient(self, tokens: Tokens, advantage: Array) -> dict[str, Array]:
        """Of the sum over sequences of ``advantage * log_probability``, entropy and what is wanted added.

        With the advantage R - b it is REINFORCE's estimate, summed (Zoph and Le, section 3.2).
        """
        passes, rows = self._read(tokens), np.arange(len(tokens))
        slope = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        later = _at_rest(self.shape, len(tokens))
        for slot in range(len(self.shape.choices) - 1, -1, -1):
            hidden, kept = passes[slot]
            logits = self._logits(slot, hidden)
            chances, decided = softmax(logits), tokens[:, slot] >= 0
            rise = -advantage[:, None] * chances
            rise[rows, tokens[:, slot]] += advantage
            rise = (rise + self._regular(slot, chances)) * decided[:, None]
            if self.shape.squash is not None:  # d(c tanh(x / 5)) / dx
                rise *= (self.shape.squash - logits**2 / self.shape.squash) / 5
            slope[f"out{slot}"] += hidden.T @ rise
            slope[f"outbias{slot}"] += rise.sum(axis=0)
            read, later = self._back(rise @ self.weights[f"out{slot}"].T, kept, later, slope)
            if slot:
                np.add.at(slope[f"embed{slot - 1}"], tokens[:, slot - 1] + 1, read)
            else:
                slope["start"] += read.sum(axis=0)
        return slope

    def learnt(self, tokens: Tokens, rewards: Array, *, lr: float, decay: float) -> "Controller":
        """The controller after an update: a step of Adam along the mean of REINFORCE's estimates.

        Args:
            decay: of the baseline, an exponential moving mean of earlier rewards; the first rewards are their own.
        """
        mean = float(rewards.mean())
        baseline = mean if np.isnan(self.baseline) else self.baseline
        slope = self.gradient(tokens, rewards - baseline)
        moved = self.moved({name: each / len(tokens) for name, each in slope.items()}, lr)
        return replace(moved, baseline=decay * baseline + (1 - decay) * mean)

    def moved(self, slope: Weights, lr: float) -> "Controller":
        """A step of Adam uphill."""
        steps, names = self.steps + 1, self.weights
        first = {name: 0.9 * self.first[name] + 0.1 * slope[name] for name in names}
        second = {name: 0.999 * self.second[name] + 0.001 * slope[name] ** 2 for name in names}
        size = lr * np.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
        weights = {name: self.weights[name] + size * first[name] / (np.sqrt(second[name]) + 1e-8) for name in names}
        return replace(self, weights=weights, first=first, second=second, steps=steps)

    def state(self) -> dict[str, Array | float]:
        """All that it has learnt, by name, for ``restored``."""
        kept: dict[str, Array | float] = {"steps": float(self.steps), "baseline": self.baseline}
        for kind, arrays in (("weights", self.weights), ("first", self.first), ("second", self.second)):
            kept |= {f"{kind}/{name}": array for name, array in arrays.items()}
        return kept

    def restored(self, kept: Mapping[str, Any]) -> "Controller":
        """A controller of this shape that has learnt what another one had."""
        kinds = ("weights", "first", "second")
        parts = ({name: np.asarray(kept[f"{kind}/{name}"]) for name in self.weights} for kind in kinds)
        return Controller(self.shape, *parts, steps=int(kept["steps"]), baseline=float(kept["baseline"]))

    # the network

    def _logits(self, slot: int, hidden: Array) -> Array:
        logits = hidden @ self.weights[f"out{slot}"] + self.weights[f"outbias{slot}"]
        return logits if self.shape.squash is None else self.shape.squash * np.tanh(logits / 5)

    def _regular(self, slot: int, chances: Array) -> Array:
        """Slope at the logits of entropy, and of the divergence from what is wanted."""
        logs = np.log(np.maximum(chances, 1e-300))
        slope = self.shape.entropy * -_centred(logs, chances)
        for at, wanted, weight in self.shape.wanted:
            if at == slot:
                slope = slope - weight * _centred(logs - np.log(wanted), chances)
        return slope

    def _step(self, read: Array, state: State) -> tuple[Array, State, list[Kept]]:
        """One step of all layers: what the last gives, their (hidden, cell) states, what the way back needs."""
        after: State = []
        kept: list[Kept] = []
        for layer, (hidden, cell) in enumerate(state):
            joined = np.concatenate([read, hidden], axis=1)
            gates = joined @ self.weights[f"lstm{layer}"] + self.weights[f"bias{layer}"]
            enter, forget, leave, new = np.split(gates, 4, axis=1)
            enter, forget, leave, new = _sigmoid(enter), _sigmoid(forget), _sigmoid(leave), np.tanh(new)
            grown = forget * cell + enter * new
            read = leave * np.tanh(grown)
            after.append((read, grown))
            kept.append((joined, enter, forget, leave, new, cell, grown))
        return read, after, kept

    def _read(self, tokens: Tokens) -> list[tuple[Array, list[Kept]]]:
        """What the LSTM gives before each decision of given sequences, and what the way back needs."""
        passes: list[tuple[Array, list[Kept]]] = []
        state, read = _at_rest(self.shape, len(tokens)), np.tile(self.weights["start"], (len(tokens), 1))
        for slot in range(len(self.shape.choices)):
            hidden, state, kept = self._step(read, state)
            passes.append((hidden, kept))
            read = self.weights[f"embed{slot}"][tokens[:, slot] + 1]
        return passes

    def _back(self, rise: Array, kept: list[Kept], later: State, slope: dict[str, Array]) -> tuple[Array, State]:
        """One step back through all layers: the slopes at what was read, and at the states before."""
        before = list(later)
        for layer in range(self.shape.layers - 1, -1, -1):
            joined, enter, forget, leave, new, cell, grown = kept[layer]
            hidden_rise, cell_rise = later[layer]
            hidden_rise = hidden_rise + rise
            bent = np.tanh(grown)
            cell_rise = cell_rise + hidden_rise * leave * (1 - bent**2)
            gates = np.concatenate(
                [
                    cell_rise * new * enter * (1 - enter),
                    cell_rise * cell * forget * (1 - forget),
                    hidden_rise * bent * leave * (1 - leave),
                    cell_rise * enter * (1 - new**2),
                ],
                axis=1,
            )
            slope[f"lstm{layer}"] += joined.T @ gates
            slope[f"bias{layer}"] += gates.sum(axis=0)
            rise, hidden_before = np.split(gates @ self.weights[f"lstm{layer}"].T, 2, axis=1)
            before[layer] = (hidden_before, cell_rise * forget)
        return rise, before


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _sigmoid(value: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * value))


def _centred(value: Array, chances: Array) -> Array:
    """Slope at the logits of the expectation of ``value`` where its own slope is that of log p."""
    return chances * (value - (chances * value).sum(axis=1, keepdims=True))


def _at_rest(shape: Shape, sequences: int) -> State:
    return [(np.zeros((sequences, shape.units)), np.zeros((sequences, shape.units))) for _ in range(shape.layers)]
