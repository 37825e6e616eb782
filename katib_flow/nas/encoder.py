"""A policy over edits: an encoder that reads a network of any length, and heads that choose how to change it.

Papers: Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018 (tokens of layers are embedded
and read by a bidirectional LSTM; a classifier that all layers share, and a decoder that begins with the last state of
the encoder); Chen et al., "RENAS", CVPR 2019 (attention over the states of earlier nodes); Williams, "Simple
Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning 1992.

A *move* is a function of the policy, the tokens of a network, and a way to choose. The same function serves two ends:
with random choices it makes an edit, and with recorded choices it gives their probability, to learn from. All numbers
are 64-bit, and one thread computes them, so that the same lessons give the same policy, bit for bit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from katib_flow.nas.controller import Learning, Teaching, one_thread, packed, unpacked
from katib_flow.nas.moves import Episode, Move

__all__ = ["EditPolicy", "Editor", "Encoded", "Shape", "Teaching", "packed", "unpacked"]
Choose = Callable[[Tensor], int]
"""Chooses a position, given logits of shape (choice,)."""
Make = Callable[["EditPolicy", Sequence[int], Choose], object]
"""Makes a move: reads the tokens of a network, and chooses."""


class Impossible(ValueError):
    """A recorded move that this policy cannot have made."""


@dataclass(frozen=True)
class Shape:
    """The shape of a policy.

    Attributes:
        vocabulary: number of tokens.
        heads: number of outputs of each head, a linear map of the encoder's states.
        decoded: number of options of each choice of the decoder; empty if there is no decoder.
        outside: number of positions without a token that attention may select; None if there is no attention.
        embedding: size of the embedding of a token.
        units: number of units of the LSTM in each direction.
    """

    vocabulary: int
    heads: Mapping[str, int]
    decoded: tuple[int, ...] = ()
    outside: int | None = None
    embedding: int = 16
    units: int = 50


@dataclass(frozen=True)
class Encoded:
    """An encoded network.

    Attributes:
        states: the state of each token, shape (token, state).
        last: final hidden and cell states of both directions, shape (1, state) each.
    """

    states: Tensor
    last: tuple[Tensor, Tensor]


class EditPolicy(nn.Module):
    """The encoder, the heads and the decoder. A state has 2 ``units`` numbers, for both directions."""

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape, state = shape, 2 * shape.units
        self.read: dict[tuple[int, ...], Encoded] = {}  # memo for the current weights
        self.embedded = nn.Parameter(torch.empty(shape.vocabulary, shape.embedding))
        self.encoder = nn.LSTM(shape.embedding, shape.units, bidirectional=True)
        self.heads = nn.ModuleDict({name: nn.Linear(state, count) for name, count in shape.heads.items()})
        if shape.outside is not None:
            self.query = nn.Parameter(torch.empty(state, state))
            self.outside = nn.Parameter(torch.empty(shape.outside, state))
        if shape.decoded:
            self.start = nn.Parameter(torch.empty(1, shape.embedding))
            self.decoder = nn.LSTMCell(shape.embedding, state)
            self.written = nn.ParameterList([torch.empty(count, shape.embedding) for count in shape.decoded])
            self.out = nn.ModuleList([nn.Linear(state, count) for count in shape.decoded])
        self.double()
        generator, spread = torch.Generator().manual_seed(seed), 1 / math.sqrt(state)
        with torch.no_grad():
            for weight in self.parameters():
                weight.uniform_(-spread, spread, generator=generator)
            self.embedded.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)  # of variance 1

    def encode(self, seen: Sequence[int]) -> Encoded:
        """Read the tokens of a network in both directions.

        Raises:
            Impossible: there are no tokens, or some are not in the vocabulary.
        """
        if not seen or not all(0 <= token < self.shape.vocabulary for token in seen):
            raise Impossible("tokens of another policy")
        if (key := tuple(seen)) not in self.read:
            states, (hidden, cell) = self.encoder(self.embedded[list(seen)])
            self.read[key] = Encoded(states, (hidden.reshape(1, -1), cell.reshape(1, -1)))
        return self.read[key]

    def logits(self, head: str, states: Tensor) -> Tensor:
        """The outputs of a head for some states, shape (..., state) -> (..., choice)."""
        return self.heads[head](states)

    def flag(self, head: str, state: Tensor) -> Tensor:
        """Logits of no and yes, shape (2,); the probability of yes is the sigmoid of the head's output."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.logits(head, state)])

    def attention(self, state: Tensor, keys: Sequence[Tensor]) -> Tensor:
        """Attention scores of a state over some others; shape (key,)."""
        return torch.stack(list(keys)) @ (self.query @ state) / math.sqrt(len(state))

    def decode(self, encoded: Encoded, choose: Choose, among: Callable[[Sequence[int]], int]) -> list[int]:
        """Make the choices of the decoder, which starts from the last state of the encoder.

        Args:
            among: the number of options of the next choice, given the choices so far; 0 ends the sequence.
        """
        read, memory = self.start, encoded.last
        choices: list[int] = []
        for written, out in zip(self.written, self.out, strict=True):
            if not (count := among(choices)):
                break
            memory = self.decoder(read, memory)
            choices.append(choose(out(memory[0])[0, :count]))
            read = written[choices[-1]][None]
        return choices


@dataclass
class Drawn:
    """Draws every choice from the distribution of the policy."""

    rng: np.random.Generator
    chosen: list[int] = field(default_factory=list[int])

    def __call__(self, logits: Tensor) -> int:
        reached = np.cumsum(logits.softmax(dim=0).numpy())
        self.chosen.append(min(int(np.searchsorted(reached, self.rng.random(), side="right")), len(reached) - 1))
        return self.chosen[-1]


@dataclass
class Repeated:
    """Repeats recorded choices.

    Attributes:
        logs: log probability of each choice.
        entropies: entropy of the distribution of each choice.
    """

    chosen: Sequence[int]
    logs: list[Tensor] = field(default_factory=list[Tensor])
    entropies: list[Tensor] = field(default_factory=list[Tensor])

    def __call__(self, logits: Tensor) -> int:
        number = len(self.logs)
        if number == len(self.chosen) or not 0 <= self.chosen[number] < len(logits):
            raise Impossible("choices of another policy")
        logs = logits.log_softmax(dim=0)
        self.logs.append(logs[self.chosen[number]])
        self.entropies.append(-(logs.exp() * logs).sum())
        return self.chosen[number]


class Editor(Learning[EditPolicy]):
    """A policy over edits that makes moves, and learns by the score function estimator (Williams, 1992).

    Args:
        moves: the function that makes a move, by kind.
    """

    @one_thread()
    def __init__(self, shape: Shape, moves: Mapping[str, Make], teaching: Teaching, seed: int) -> None:
        super().__init__(EditPolicy(shape, seed), teaching.lr, teaching.decay)
        self.moves, self.teaching = moves, teaching

    def draw(self, kind: str, seen: Sequence[int], rng: np.random.Generator) -> Move:
        """Make a random move."""
        drawn = Drawn(rng)
        with one_thread(), torch.no_grad():
            self.moves[kind](self.policy, seen, drawn)
        return Move(kind, tuple(seen), tuple(drawn.chosen))

    def repeat(self, move: Move) -> Repeated:
        """Repeat a recorded move, to get its probability.

        Raises:
            Impossible: this policy cannot have made the move.
        """
        repeated = Repeated(move.chosen)
        if move.kind not in self.moves:
            raise Impossible(f"unknown kind of move: {move.kind}")
        self.moves[move.kind](self.policy, move.seen, repeated)
        if len(repeated.logs) < len(move.chosen):
            raise Impossible("more choices than the move has")
        return repeated

    def learn(self, episodes: Sequence[Episode], rewards: NDArray[np.float64]) -> None:
        """Learn from a batch of episodes and their rewards; episodes that this policy cannot have made are ignored."""
        with one_thread():
            self.policy.read.clear()  # drop states that were computed without gradients
            terms = [self._terms(episode) for episode in episodes]
            possible = [number for number, term in enumerate(terms) if term is not None]
            if possible:
                both = torch.stack([term for term in terms if term is not None])
                advantages = self.advantages(rewards[possible])
                self.ascend((advantages * both[:, 0] + self.teaching.entropy * both[:, 1]).mean())
            self.policy.read.clear()

    def _terms(self, episode: Episode) -> Tensor | None:
        """Log probability of an episode and the sum of its entropies, shape (2,); None if it is impossible or empty."""
        try:
            repeated = [self.repeat(move) for move in episode]
        except Impossible:
            return None
        nothing = torch.zeros((), dtype=torch.float64)
        logs = [log for one in repeated for log in one.logs]
        if not logs:
            return None
        entropies = [entropy for one in repeated for entropy in one.entropies]
        return torch.stack([sum(logs, nothing), sum(entropies, nothing)])
