"""One-shot search by a hypernetwork: architectures are scored with weights that it writes for them.

Paper: Brock et al., "SMASH: One-Shot Model Architecture Search through HyperNetworks", ICLR 2018: algorithm 1 (each
batch a random architecture, its weights written from its code, and one step of the hypernetwork and of all other
weights; then random architectures are scored with written weights, and the best is trained from scratch), section 3.1
(memory banks, the code), 3.2 (the hypernetwork writes the 1 x 1 convolutions that read banks, normalised; all others
are learnt as usual). Before that, the best architecture is perturbed (section 4.1, as in the authors' code).
Departs from it: every operation has its own convolution, always reads the last written bank and writes the next one;
the banks of a stage have the same width; batch normalisation is kept; one optimiser trains all weights, with Nesterov
momentum, which the authors' code has next to Adam; the score is the loss on the half of the training images that is not
used for training; several networks are trained from scratch, not one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS
from katib_flow.models.flat import Flat
from katib_flow.nas.door import Later
from katib_flow.nas.relax.banks import bank_convs
from katib_flow.nas.relax.chain import Rate, SupernetSettings, chained, needs_supernet
from katib_flow.nas.relax.choice import Bounds, Choice
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

if TYPE_CHECKING:
    from katib_flow.models.build import Network
    from katib_flow.nas.relax import hypernetwork, segments, shared
    from katib_flow.training import loop
    from katib_flow.training.data import Data
else:
    loop, hypernetwork = Later("katib_flow.training.loop"), Later("katib_flow.nas.relax.hypernetwork")
    segments, shared = Later("katib_flow.nas.relax.segments"), Later("katib_flow.nas.relax.shared")


class SmashSettings(SupernetSettings):
    """Settings of ``smash``."""

    paper: ClassVar = {
        "epochs": 100, "batch": 50, "lr": 0.1, "lr_end": 0.0, "candidates": 500, "perturbations": 100,
        "depth": 22, "retrain": 1,
    }  # fmt: skip
    epochs: Count = 150
    batch: Count = 16
    lr: Annotated[float, Field(gt=0)] = 0.2
    weight_decay: Rate = 1e-4
    growth: Count = 10
    """Number of channels of each layer of the hypernetwork."""
    depth: Count = 4
    """Number of layers of the hypernetwork before the last."""
    candidates: Count = 100
    """Number of different random architectures that are scored with written weights at the end."""
    perturbations: Annotated[int, Field(ge=0)] = 40
    """Number of perturbations of the best architecture after that."""
    perturbed: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Probability that a perturbation draws a slot anew; it draws at least one."""


def _check(experiment: Experiment, settings: SmashSettings) -> Iterator[SpecError]:
    spaces = "banks or macro"
    problems = list(needs_supernet(experiment, "smash", skips=True, spaces=spaces))
    yield from problems
    space = None if problems else architectures(experiment)
    if space is not None and experiment.architecture is not None and not bank_convs(space.supernet()):
        need = f"a space with a 1 x 1 convolution that reads a concatenation of optional edges, such as {spaces}"
        why = "because smash writes the weights of such convolutions"
        yield SpecError("architecture.space", experiment.architecture.space, f"{need}, {why}")


def segment(settings: SmashSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields the progress of the search, the choices of an architecture (after the last epoch, of the
    best ones), its ``accuracy`` and ``loss`` with written weights on the validation images, and its ``score``.
    """
    provider = partial(hypernetwork.Hypernetwork, growth=settings.growth, depth=settings.depth)
    yield from segments.trained(Smashing, settings, data, seed=seed, threads=threads, provider=provider)


@algorithm(
    "smash", settings=SmashSettings, check=_check, ends=True, segment=segment, strategy="generation", scope="network"
)
def smash(ask: Ask[SmashSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the best networks by written weights, trained from scratch."""
    return chained(ask)


class Smashing:
    """A running search.

    Attributes:
        epoch: number of completed epochs.
    """

    def __init__(self, network: Network, data: Data, settings: SmashSettings, seed: int = 0, state: Any = None) -> None:
        self.network, self.settings, self.seed, self.epoch = network, settings, seed, 0
        self.train, self.valid = (shared.on_device(network, half) for half in shared.halves(data))
        self.bounds = Bounds(network.topology, settings.max_parameters, settings.max_flops)
        self.columns = shared.columns(network)
        self.optimiser = shared.weights_optimiser(network, settings, nesterov=True)
        self.parts: dict[str, Any] = {"network": network, "optimiser": self.optimiser}
        for name, part in self.parts.items() if state else ():
            part.load_state_dict(state[name])
        self.epoch = int(state["epoch"]) if state else 0

    def state(self) -> dict[str, Any]:
        """The state from which the search can continue."""
        return {name: part.state_dict() for name, part in self.parts.items()} | {"epoch": self.epoch}

    def train_epoch(self) -> None:
        """Train once over the first half, each batch with a random architecture (algorithm 1)."""
        self.epoch += 1
        rng = np.random.default_rng((self.seed, self.epoch))
        shared.set_rate(self.optimiser, self.settings, self.epoch)
        images = loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch)
        for chosen, child in zip(images, children(self.network.flat, rng), strict=False):
            self.step(child, shared.rows(self.train, chosen))

    def step(self, child: Choice, batch: shared.Batch) -> None:
        """Train the hypernetwork, through the weights that it writes for a child, and the child's other weights."""
        shared.child_step(self.network, child, batch, self.optimiser, self.columns, self.settings.clip)

    def score(self, child: Choice) -> float:
        """The loss of a child with written weights on the second half."""
        return shared.child_loss(self.network, child, self.valid)

    def perturbed(self, child: Choice, rng: np.random.Generator) -> Choice:
        """A child with some of its slots drawn anew, at least one."""
        other, slots = next(children(self.network.flat, rng)), list(child)
        anew = {slots[int(rng.integers(len(slots)))]} | {
            slot for slot in slots if rng.random() < self.settings.perturbed
        }
        return {slot: other[slot] if slot in anew else child[slot] for slot in slots}

    def scored(self) -> list[tuple[float, Choice]]:
        """The scored architectures, the best first: candidates, and perturbations of the best so far."""
        rng = np.random.default_rng((self.seed, self.epoch, 1))
        candidates = self.bounds.first(children(self.network.flat, rng), self.settings.candidates)
        known = {self.bounds.network(child)[0]: (self.score(child), child) for child in candidates}
        for _ in range(self.settings.perturbations):
            best = min(known.values(), key=lambda scored: scored[0])
            child = self.perturbed(best[1], rng)
            network = self.bounds.network(child)[0]
            if network not in known and self.bounds.hold(child):
                known[network] = (self.score(child), child)
        return sorted(known.values(), key=lambda scored: scored[0])

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics of a segment after an epoch."""
        if self.epoch >= self.settings.epochs:
            best = self.scored()[: self.settings.retrain]
        else:
            (child,) = self.bounds.first(
                children(self.network.flat, np.random.default_rng((self.seed, self.epoch, 1))), 1
            )
            best = [(self.score(child), child)]
        report = shared.report(self.network, [child for _, child in best], self.train, data.valid)
        return {"step": self.epoch, PROGRESS: self.epoch / self.settings.epochs, "score": best[0][0], **report}


def children(supernet: Flat, rng: np.random.Generator) -> Iterator[Choice]:
    """Endless uniformly random architectures of a supernet."""
    for _ in itertools.count():
        yield {slot: int(rng.integers(len(names))) for slot, names in supernet.groups.items()}
