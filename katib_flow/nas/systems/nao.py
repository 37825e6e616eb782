"""Optimisation in a continuous space: encode the best networks, follow the gradient of a predictor, and decode.

Paper: Luo et al., "Neural Architecture Optimization", NeurIPS 2018: section 3.2 (encoder, predictor and decoder, which
are trained together on all networks with a result), section 3.3 and Algorithm 1 (the ``seeds`` best networks are moved
along the gradient of the predictor and decoded; if that gives no new network, they are moved further), section 3.2 (the
two inputs of a node can be exchanged without changing the network). The model is in ``latent``.
Departs from it: results become scores from 0 for the worst to 1 for the best so far, so that any objective will do; all
networks are in the batch of each training step; if no decoded network is new, a neighbour of a seed is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from katib_flow.algorithms.distinct import PATIENCE, Known
from katib_flow.algorithms.learning import Learner
from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Kind, Origin, Suggestion
from katib_flow.nas.door import Later
from katib_flow.nas.policy import needs_slots
from katib_flow.nas.settings import SystemSettings
from katib_flow.nas.tokens import IsActive, choices, decided, encoded
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.space import Assignment

if TYPE_CHECKING:
    from katib_flow.nas import latent
else:
    latent = Later("katib_flow.nas.latent")

STEPS = 12  # largest number of steps of length ``step`` along the gradient
Tokens = NDArray[np.intp]


class NaoSettings(SystemSettings):
    """Settings of ``nao``."""

    initial: Count = 40
    """Number of random networks before the model is first trained."""
    batch: Count = 10
    """Number of trials after which the model is trained anew, on all trials."""
    seeds: Count = 10
    """Number of best networks to improve."""
    step: Annotated[float, Field(gt=0)] = 1.0
    """Step length along the gradient of the predictor; up to 12 times as far if shorter steps give no new network."""
    embedding: Count = 32
    """Size of the embedding of a decision."""
    hidden: Count = 96
    """Number of units of the encoder, the decoder and the predictor."""
    training_steps: Count = 150
    """Number of steps of a training of the model, each on all networks."""
    lr: Annotated[float, Field(gt=0)] = 0.005
    """Learning rate of the model's training by Adam."""
    balance: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Weight of the predictor's error; 1 - balance is that of the decoder."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability of dropout on the embeddings during training."""
    paper: ClassVar = {"initial": 600, "batch": 200, "seeds": 200, "training_steps": 1000, "lr": 0.001, "step": 10.0}


def _check(experiment: Experiment, settings: NaoSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "pairs")


@dataclass(frozen=True)
class Round:
    """The trials with a result since the last training of the model.

    Attributes:
        trials: the indices of the trials.
        tokens: shape (trial, slot).
        losses: shape (trial,), lower is better.
    """

    trials: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    losses: tuple[float, ...]


@dataclass
class Learnt:
    """A model, None before the first round, and the rounds that it was trained on."""

    model: latent.LatentModel | None
    rounds: list[Round]

    def seeds(self, count: int) -> tuple[list[int], Tokens]:
        """The best trials and their tokens, the best first."""
        trials, tokens, losses = joined(self.rounds)
        best = np.argsort(losses, kind="stable")[:count]
        return [trials[position] for position in best], tokens[best]


def joined(rounds: Sequence[Round]) -> tuple[list[int], Tokens, NDArray[np.float64]]:
    """Indices, tokens, shape (trial, slot), and losses, shape (trial,), of all trials of some rounds."""
    trials = [index for one in rounds for index in one.trials]
    tokens = np.array([row for one in rounds for row in one.tokens], dtype=np.intp)
    return trials, tokens, np.array([loss for one in rounds for loss in one.losses])


class LatentLearner(Learner[NaoSettings, Round, Learnt]):
    """The lessons are rounds of trials; after each, the model is trained anew on all rounds."""

    def lessons(self, ask: Ask[NaoSettings]) -> list[Round]:
        """One lesson for each round that has ended."""
        rounds: list[Round] = []
        first, last = 0, ask.settings.initial
        while last <= len(ask.history) and all(trial.state.over for trial in ask.history[first:last]):
            done = [trial for trial in ask.history[first:last] if trial.observed(ask.objective.metric) is not None]
            losses = tuple(ask.loss(trial) for trial in done)
            tokens = tuple(encoded(ask.space, trial.assignment) for trial in done)
            rounds.append(Round(tuple(trial.index for trial in done), tokens, losses))
            first, last = last, last + ask.settings.batch
        return rounds

    def begin(self, ask: Ask[NaoSettings]) -> Learnt:
        """No model."""
        return Learnt(None, [])

    def learn(self, ask: Ask[NaoSettings], known: Learnt, lesson: Round, number: int) -> Learnt:
        """Train a new model on all rounds; no model if there are fewer than two results."""
        rounds = [*known.rounds, lesson]
        _, tokens, losses = joined(rounds)
        if len(losses) < 2:
            return Learnt(None, rounds)
        settings, seed = ask.settings, int(np.random.SeedSequence((ask.seed, number)).generate_state(1)[0])
        model = _model(ask, seed)
        how = latent.Fit(settings.training_steps, settings.lr, settings.balance, settings.dropout)
        worst, best = losses.max(), losses.min()
        scores = (worst - losses) / (worst - best if worst > best else 1.0)
        latent.fit(model, latent.written_otherwise(tokens, list(ask.space.parameters), seed), scores, how, seed)
        return Learnt(model, rounds)

    def pack(self, known: Learnt) -> bytes:
        """The model and the rounds as safetensors."""
        lengths = np.array([len(one.trials) for one in known.rounds], dtype=np.intp)
        trials, tokens, losses = joined(known.rounds)
        return latent.packed(
            known.model,
            {"lengths": lengths, "trials": np.array(trials, dtype=np.intp), "tokens": tokens, "losses": losses},
        )

    def unpack(self, ask: Ask[NaoSettings], content: bytes) -> Learnt:
        """The packed model and rounds."""
        model, kept = latent.unpacked(_model(ask, 0), content)
        if kept.keys() != {"lengths", "trials", "tokens", "losses"}:
            raise ValueError("not the rounds of this system")
        ends = np.cumsum(kept["lengths"])
        if {len(kept[name]) for name in ("trials", "tokens", "losses")} != {int(kept["lengths"].sum())}:
            raise ValueError("rounds of other lengths")
        parts = (np.split(kept[name], ends[:-1]) for name in ("trials", "tokens", "losses"))
        return Learnt(
            model,
            [
                Round(tuple(trials.tolist()), tuple(map(tuple, tokens.tolist())), tuple(losses.tolist()))
                for trials, tokens, losses in zip(*parts, strict=True)
            ],
        )


def _model(ask: Ask[NaoSettings], seed: int) -> latent.LatentModel:
    counts = tuple(choices(parameter) for parameter in ask.space.parameters.values())
    return latent.LatentModel(latent.Shape(counts, ask.settings.embedding, ask.settings.hidden), seed)


@algorithm(
    "nao", settings=NaoSettings, check=_check, learner=LatentLearner(), extra="nas",
    strategy="modification", scope="cell",
)  # fmt: skip
def nao(ask: Ask[NaoSettings], known: Learnt) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    tried = Known.from_ask(ask)

    def propose(index: int) -> Suggestion | None:
        rng = ask.rng(index)
        improved = tried.first(_improved(ask, known, rng)) if known.model is not None else None
        assignment, origin = improved or (tried.drawn(rng), Origin())
        return None if assignment is None else Suggestion(index, assignment, origin=origin)

    return tried.suggestions(ask.indices, propose)


def _improved(ask: Ask[NaoSettings], known: Learnt, rng: np.random.Generator) -> Iterator[tuple[Assignment, Origin]]:
    """The seeds after one step, then after more and more steps; then random neighbours of seeds."""
    trials, tokens = known.seeds(ask.settings.seeds)
    assert known.model is not None
    for length in range(1, STEPS + 1):
        states = known.model.improved(tokens, length * ask.settings.step)

        def decode(_: Any, count: int, is_active: IsActive, states: Any = states) -> Tokens:
            return known.model.decode(states, is_active)  # type: ignore[union-attr]

        for seed, assignment in zip(trials, decided(ask.space, decode, rng, len(trials)), strict=True):
            yield assignment, Origin(Kind.MODIFY, (seed,))
    for _ in range(PATIENCE):
        seed = int(rng.integers(len(trials)))
        assignment = ask.history[trials[seed]].assignment
        yield ask.space.mutate(dict(assignment), rng), Origin(Kind.MODIFY, (trials[seed],))
