"""Search on the target device: gates select one path of a supernet at a time, and learn accuracy and latency.

Paper: Cai et al., "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", ICLR 2019: section 3.2
(binary gates: one path of each slot is on, equation 2), 3.2.1 (their gradient, equation 4, for two sampled paths, so
that a step needs the memory of two; the two are rescaled so that the others keep their probabilities), 3.3.1 (expected
latency in the loss, equations 7 and 8), 3.3.2 (REINFORCE, for objectives that are not differentiable, equation 9). The
weights are trained on one half of the training images, the gates on the other; the most likely networks are trained
from scratch.
Departs from it: latency is a share of that of the slowest architecture, so that its weight suits any device; the
expectation in a step is over its two paths, as in the authors' code, which is also the source of the warm-up and of
Adam without momentum, so that paths that were not sampled stay as they are; the reward of REINFORCE is the accuracy
minus that share, and its baseline is the mean of the other networks of the update, not a moving mean; F is measured or
read from a table, not predicted; half of the images are held out, not a tenth; the paper's ``alpha_lr`` is for tens of
thousands of steps, and a short search needs a larger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS, weight_values
from katib_flow.nas.door import Later
from katib_flow.nas.relax.chain import Rate, WarmUpSettings, chained, needs_supernet
from katib_flow.nas.relax.choice import Bounds, Choice, likeliest
from katib_flow.nas.relax.costs import Costs, choice_times, expected, shares_of_largest
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count, Text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from katib_flow.models.build import Network
    from katib_flow.nas.relax import gates, segments, shared
    from katib_flow.training import loop
    from katib_flow.training.data import Data
else:
    torch, loop = Later("torch"), Later("katib_flow.training.loop")
    gates, segments = Later("katib_flow.nas.relax.gates"), Later("katib_flow.nas.relax.segments")
    shared = Later("katib_flow.nas.relax.shared")

PATHS = 2  # paths of a slot in a step of the gates


class ProxylessSettings(WarmUpSettings):
    """Settings of ``proxylessnas``."""

    paper: ClassVar = {
        "epochs": 160, "warm_up": 40, "batch": 256, "lr": 0.025, "lr_end": 0.0, "weight_decay": 4e-5, "alpha_lr": 1e-3,
        "every": 5, "samples": 10, "retrain": 1,
    }  # fmt: skip
    epochs: Count = 40
    batch: Count = 16
    lr: Annotated[float, Field(gt=0)] = 0.2
    weight_decay: Rate = 3e-4
    every: Count = 1
    """Number of steps of the weights per step of the gates."""
    gradient: Literal["gates", "reinforce"] = "gates"
    """How the gates learn: gates, by gradients through two paths; reinforce, from the rewards of sampled networks."""
    samples: Annotated[int, Field(ge=2)] = 8
    """Number of networks in a step of ``reinforce``."""
    alpha_lr: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate of the architecture weights, which give the probabilities of the paths."""
    latency_weight: Rate = 0.1
    """Weight in the loss of the expected latency, as a share of that of the slowest architecture."""
    latency: Text = "measured"
    """Source of the latencies: ``measured`` on the machine of the search; the path of a file with a table that was
    measured elsewhere; or ``flops``, a substitute that is the same everywhere."""


def _check(experiment: Experiment, settings: ProxylessSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "proxylessnas", skips=False, spaces="mobile-chain, cell or dense")


def segment(settings: ProxylessSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields the progress of the search, the probability of each path (``alpha/<slot>/...``), the
    choices of the derived network (``choice/<slot>``), its ``accuracy`` and ``loss`` with shared weights on the
    validation images, and the expected cost of the searched layers: ``latency`` in milliseconds (or ``flops``), and
    ``cost`` as a share of that of the slowest architecture.
    """
    yield from segments.trained(Gated, settings, data, seed=seed, threads=threads)


@algorithm(
    "proxylessnas", settings=ProxylessSettings, check=_check, ends=True, segment=segment,
    strategy="modification", scope="network",
)  # fmt: skip
def proxylessnas(ask: Ask[ProxylessSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the most likely networks, trained from scratch."""
    return chained(ask)


class Gated:
    """A running search.

    Attributes:
        epoch: number of completed epochs.
        alphas: the architecture weights of each slot, shape (path,).
        costs: the cost of each path of a slot, in milliseconds or FLOPs.
    """

    def __init__(
        self, network: Network, data: Data, settings: ProxylessSettings, seed: int = 0, state: Any = None
    ) -> None:
        self.network, self.settings, self.seed, self.epoch = network, settings, seed, 0
        self.train, self.valid = (shared.on_device(network, half) for half in shared.halves(data))
        self.bounds = Bounds(network.topology, settings.max_parameters, settings.max_flops)
        self.alphas: Mapping[str, Tensor] = network.architecture_weights()
        self.optimiser = shared.weights_optimiser(network, settings, nesterov=True)
        self.architect = torch.optim.Adam(list(self.alphas.values()), lr=settings.alpha_lr, betas=(0.0, 0.999))
        self.parts: dict[str, Any] = {"network": network, "optimiser": self.optimiser, "architect": self.architect}
        for name, part in self.parts.items() if state else ():
            part.load_state_dict(state[name])
        if state:
            self.epoch = int(state["epoch"])
        self.costs: Costs = state["costs"] if state else choice_times(network.topology, settings.latency)
        self.shares = shares_of_largest(self.costs)

    def state(self) -> dict[str, Any]:
        """The state from which the search can continue; it has the costs, so that latency is measured only once."""
        kept = {name: part.state_dict() for name, part in self.parts.items()}
        return {**kept, "epoch": self.epoch, "costs": dict(self.costs)}

    def train_epoch(self) -> None:
        """Train once over both halves: steps of the weights and, after the warm-up, of the gates."""
        self.epoch += 1
        rng = np.random.default_rng((self.seed, self.epoch))
        shared.set_rate(self.optimiser, self.settings, self.epoch)
        step = {"gates": self.gates_step, "reinforce": self.reinforce_step}[self.settings.gradient]
        images = loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch)
        for number, chosen in enumerate(images, 1):
            self.weight_step(self.child(rng), shared.rows(self.train, chosen))
            if self.epoch > self.settings.warm_up_epochs and number % self.settings.every == 0:
                step(shared.rows(self.valid, chosen), rng)

    def child(self, rng: np.random.Generator) -> Choice:
        """Sample one path of each slot (equation 2)."""
        return {slot: gates.sampled(alpha, 1, rng)[0] for slot, alpha in self.alphas.items()}

    def weight_step(self, child: Choice, batch: shared.Batch) -> None:
        """Train the weights of the paths that are on, and no others."""
        shared.child_step(self.network, child, batch, self.optimiser, (), self.settings.clip)

    def gates_step(self, batch: shared.Batch, rng: np.random.Generator) -> None:
        """Train the gates of two sampled paths of each slot; the other paths keep their probabilities (3.2.1)."""
        paths = {slot: gates.sampled(alpha, PATHS, rng) for slot, alpha in self.alphas.items()}
        chances = {slot: gates.chances_among(alpha, paths[slot]) for slot, alpha in self.alphas.items()}
        on = {slot: gates.sampled(chance.log(), 1, rng)[0] for slot, chance in chances.items()}
        self.network.choose({slot: gates.binary(chance, paths[slot], on[slot]) for slot, chance in chances.items()})
        loss = torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        before = {slot: alpha.detach().clone() for slot, alpha in self.alphas.items()}
        self.learn(loss + self.settings.latency_weight * expected(self.shares, chances))
        for slot, alpha in self.alphas.items():
            gates.rescale(alpha, before[slot], paths[slot])

    def reinforce_step(self, batch: shared.Batch, rng: np.random.Generator) -> None:
        """Train the gates by the rewards of sampled networks (equation 9)."""
        children = [self.child(rng) for _ in range(self.settings.samples)]
        logs = {slot: alpha.log_softmax(dim=0) for slot, alpha in self.alphas.items()}
        log_chances = torch.stack([sum(logs[slot][path] for slot, path in child.items()) for child in children])  # type: ignore[misc]
        self.learn(gates.policy_loss(log_chances, [self.reward(child, batch) for child in children]))

    def reward(self, child: Choice, batch: shared.Batch) -> float:
        """The accuracy of a child on some images minus its weighted latency."""
        share = sum(self.shares[slot][path] for slot, path in child.items())
        return shared.child_accuracy(self.network, child, batch) - self.settings.latency_weight * share

    def learn(self, loss: Tensor) -> None:
        """Take a step of the architecture weights only."""
        alphas = list(self.alphas.values())
        for alpha, slope in zip(alphas, torch.autograd.grad(loss, alphas), strict=True):
            alpha.grad = slope
        self.architect.step()

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics of a segment after an epoch."""
        with torch.no_grad():
            chances = shared.blend(self.network)
            unit = "flops" if self.settings.latency == "flops" else "latency"
            costs = {unit: float(expected(self.costs, chances)), "cost": float(expected(self.shares, chances))}
        alpha = weight_values(self.network.topology, {slot: chance.tolist() for slot, chance in chances.items()})
        report = shared.report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, PROGRESS: self.epoch / self.settings.epochs, **report, **costs, **alpha}

    def derived(self) -> list[Choice]:
        """The choices of the most likely networks within the bounds, in descending order."""
        log_chances = {slot: alpha.log_softmax(dim=0).tolist() for slot, alpha in self.alphas.items()}
        return self.bounds.first(likeliest(log_chances), self.settings.retrain)
