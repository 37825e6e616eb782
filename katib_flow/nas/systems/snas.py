"""Stochastic search: every edge samples a nearly one-hot operation, and the distribution is trained with the weights.

Paper: Xie et al., "SNAS: Stochastic Neural Architecture Search", ICLR 2019: section 2.2 (the search, equations 3 to 5:
a relaxed one-hot from the concrete distribution, weights and distribution trained together on one loss), section 2.3
(credit of an operation), section 2.4 (resource constraint, linear in the draw), appendix (annealed temperature).
The most probable operations of the edges, "none" included, are trained from scratch.
Departs from it: the cost of an architecture is its FLOPs, as a share of those of the most expensive one; the
temperature falls geometrically during the search; the paper's ``distribution_lr`` is for tens of thousands of steps,
and a short search needs a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS, weight_values
from katib_flow.nas.door import Later
from katib_flow.nas.relax.chain import Rate, SupernetSettings, chained, needs_supernet
from katib_flow.nas.relax.choice import Bounds, Choice, likeliest
from katib_flow.nas.relax.costs import choice_flops, expected, shares_of_largest
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from katib_flow.models.build import Network
    from katib_flow.nas.relax import segments, shared
    from katib_flow.training import loop
    from katib_flow.training.data import Data
else:
    torch, loop = Later("torch"), Later("katib_flow.training.loop")
    segments, shared = Later("katib_flow.nas.relax.segments"), Later("katib_flow.nas.relax.shared")

Temperature = Annotated[float, Field(gt=0)]


class SnasSettings(SupernetSettings):
    """Settings of ``snas``."""

    paper: ClassVar = {"epochs": 150, "batch": 64, "lr": 0.025, "distribution_lr": 3e-4, "retrain": 1}
    epochs: Count = 40
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Rate = 3e-4
    temperature: Temperature = 1.0
    """Initial temperature; the higher, the more an edge is a blend of all operations."""
    temperature_end: Temperature = 0.03
    """Final temperature."""
    distribution_lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the logits of the operations."""
    distribution_weight_decay: Rate = 1e-3
    """Weight decay of the logits of the operations."""
    cost: Rate = 0.0
    """Weight in the loss of the sample's FLOPs, as a share of those of the most expensive architecture."""


def _check(experiment: Experiment, settings: SnasSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "snas", skips=False)
    if settings.temperature_end > settings.temperature:
        need = f"at most algorithm.settings.temperature, {settings.temperature:g}"
        yield SpecError("algorithm.settings.temperature_end", settings.temperature_end, need)


def segment(settings: SnasSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields the progress of the search, the probability of each choice (``alpha/<slot>/...``), the
    choices of the derived network (``choice/<slot>``), its ``accuracy`` and ``loss`` with shared weights on the
    validation images, the temperature, and the expected cost as a share of that of the most expensive architecture.
    """
    yield from segments.trained(Annealed, settings, data, seed=seed, threads=threads)


@algorithm(
    "snas", settings=SnasSettings, check=_check, ends=True, segment=segment, strategy="modification", scope="cell"
)
def snas(ask: Ask[SnasSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the most likely networks, trained from scratch."""
    return chained(ask, norm=True)


class Annealed:
    """A running search.

    Attributes:
        epoch: number of completed epochs.
        logits: the logits log a of the choices, shape (choice,), by slot.
    """

    def __init__(self, network: Network, data: Data, settings: SnasSettings, seed: int = 0, state: Any = None) -> None:
        self.network, self.settings, self.seed, self.epoch = network, settings, seed, 0
        self.train = shared.on_device(network, data.train)
        self.bounds = Bounds(network.topology, settings.max_parameters, settings.max_flops)
        self.logits: Mapping[str, Tensor] = network.architecture_weights()
        self.costs = shares_of_largest(choice_flops(network.topology))
        self.optimiser = shared.weights_optimiser(network, settings)
        how: dict[str, Any] = {
            "lr": settings.distribution_lr,
            "weight_decay": settings.distribution_weight_decay,
            "betas": (0.5, 0.999),
        }
        self.distribution = torch.optim.Adam(list(self.logits.values()), **how)
        self.parts: dict[str, Any] = {
            "network": network, "optimiser": self.optimiser, "distribution": self.distribution
        }  # fmt: skip
        if state is not None:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.epoch = int(state["epoch"])

    def state(self) -> dict[str, Any]:
        """The state from which the search can continue."""
        return {name: part.state_dict() for name, part in self.parts.items()} | {"epoch": self.epoch}

    @property
    def temperature(self) -> float:
        """The temperature of this epoch; it falls by equal factors from the first epoch to the last."""
        over = (self.epoch - 1) / max(1, self.settings.epochs - 1)
        return self.settings.temperature * (self.settings.temperature_end / self.settings.temperature) ** over

    def train_epoch(self) -> None:
        """Train once over all training images."""
        self.network.train()
        self.epoch += 1
        shared.set_rate(self.optimiser, self.settings, self.epoch)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for chosen in loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch):
            self.step(shared.rows(self.train, chosen), generator)

    def step(self, batch: shared.Batch, generator: torch.Generator) -> None:
        """Train the weights and the distribution with the same sample and the same loss (equation 5)."""
        draw = {slot: relaxed(logits, self.temperature, generator) for slot, logits in self.logits.items()}
        self.network.choose(draw)
        loss = torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        loss = loss + self.settings.cost * self.cost_of(draw)
        for optimiser in (self.optimiser, self.distribution):
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.weights(), self.settings.clip)
        self.optimiser.step()
        self.distribution.step()

    def cost_of(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The cost of a sample, or of probabilities the expected cost, as a share of the largest cost (section 2.4)."""
        return expected(self.costs, weights)

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics of a segment after an epoch."""
        with torch.no_grad():
            probabilities = shared.blend(self.network)
            cost = float(self.cost_of(probabilities))
            self.network.choose(probabilities)
            loss, accuracy = loop.evaluate(self.network, data.valid)
        whole = {"supernet/accuracy": accuracy, "supernet/loss": loss, "cost": cost, "temperature": self.temperature}
        alpha = weight_values(
            self.network.topology, {slot: probability.tolist() for slot, probability in probabilities.items()}
        )
        progress = {"step": self.epoch, PROGRESS: self.epoch / self.settings.epochs}
        return {**progress, **shared.report(self.network, self.derived(), self.train, data.valid), **whole, **alpha}

    def derived(self) -> list[Choice]:
        """The choices of the most likely networks within the bounds, in descending order."""
        log_chances = {slot: logits.log_softmax(dim=0).tolist() for slot, logits in self.logits.items()}
        return self.bounds.first(likeliest(log_chances), self.settings.retrain)


def relaxed(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Sample from the concrete distribution, shape (choice,): nearly one-hot at a low temperature (equation 4).

    Args:
        logits: log a of each choice, shape (choice,).
    """
    gumbel = -torch.empty(logits.shape, dtype=torch.float64).exponential_(generator=generator).log().to(logits)
    return ((logits.log_softmax(dim=0) + gumbel) / temperature).softmax(dim=0)
