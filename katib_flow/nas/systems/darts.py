"""Differentiable search: every edge a blend of all operations, whose weights are trained by gradient descent.

Paper: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019, section 2.3, algorithm 1, equations 5 to 8:
weights and architecture weights are trained in turns, each on half of the training images, in segments of a trial each;
what they come to is trained from scratch.
Departs from it: one search, not the best of four with different seeds, but several of the networks that weigh most, by
the product of the weights of their choices, are trained; in a supernet skips are normalised like pooling, so that no
operation weighs more for its scale alone; the unrolled step of the weights is plain gradient descent, without momentum;
``alpha_lr`` is for thousands of steps there, so a short search needs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS, weights_told
from katib_flow.nas.door import Later
from katib_flow.nas.relax.chain import Rate, SupernetSettings, chained, needs_supernet
from katib_flow.nas.relax.choice import Bounds, Choice, ranked
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from katib_flow.models.build import Network
    from katib_flow.nas.relax import segments, shared
    from katib_flow.training import loop
    from katib_flow.training.data import Data
else:
    torch, loop = Later("torch"), Later("katib_flow.training.loop")
    segments, shared = Later("katib_flow.nas.relax.segments"), Later("katib_flow.nas.relax.shared")

EPSILON = 0.01  # of equation 8, over the norm of the gradient


class DartsSettings(SupernetSettings):
    paper: ClassVar = {"epochs": 50, "batch": 64, "lr": 0.025, "alpha_lr": 3e-4, "retrain": 1}
    epochs: Count = 24
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Rate = 3e-4
    order: Literal[1, 2] = 2
    """2 differentiates through a step of the weights; 1 takes them as they are, in less than half the time."""
    inputs: Count = 2
    """Edges that each node of the derived architecture keeps."""
    alpha_lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the architecture weights."""
    alpha_weight_decay: Rate = 1e-3
    """Of the architecture weights."""


def _check(experiment: Experiment, settings: DartsSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "darts", skips=False)


def segment(settings: DartsSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields how far the search is, the weights of all choices (``alpha/<slot>/...``), what is
    derived from them (``choice/<slot>``), its ``accuracy`` and ``loss`` with the shared weights, on the validation
    images, which no half has, and the same of the supernet.
    """
    yield from segments.trained(Bilevel, settings, data, seed=seed, threads=threads)


@algorithm(
    "darts", settings=DartsSettings, check=_check, ends=True, segment=segment, strategy="modification", scope="cell"
)
def darts(ask: Ask[DartsSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the networks that weigh most, from scratch."""
    return chained(ask, norm=True)


class Bilevel:
    """A search under way.

    Attributes:
        epoch: how many are over.
    """

    def __init__(self, network: Network, data: Data, settings: DartsSettings, seed: int = 0, state: Any = None) -> None:
        self.network, self.settings, self.seed = network, settings, seed
        self.train, self.valid = (shared.on_device(network, half) for half in shared.halves(data))
        self.bounds = Bounds(network.topology, settings.max_parameters, settings.max_flops)
        self.alphas, self.weights = list(network.architecture_weights().values()), network.weights()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for alpha in self.alphas:
                alpha.copy_(1e-3 * torch.randn(alpha.shape, generator=generator))
        self.optimiser = shared.weights_optimiser(network, settings)
        how: dict[str, Any] = {
            "lr": settings.alpha_lr,
            "weight_decay": settings.alpha_weight_decay,
            "betas": (0.5, 0.999),
        }
        self.architect = torch.optim.Adam(self.alphas, **how)
        self.parts: dict[str, Any] = {"network": network, "optimiser": self.optimiser, "architect": self.architect}
        for name, part in self.parts.items() if state else ():
            part.load_state_dict(state[name])
        self.epoch = 0 if state is None else int(state["epoch"])

    def state(self) -> dict[str, Any]:
        """What a search that goes on needs."""
        return {name: part.state_dict() for name, part in self.parts.items()} | {"epoch": self.epoch}

    def train_epoch(self) -> None:
        """Algorithm 1, once over both halves: a step of the architecture, a step of the weights."""
        self.network.train()
        self.epoch += 1
        lr = shared.set_rate(self.optimiser, self.settings, self.epoch)
        for chosen in loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch):
            train, valid = shared.rows(self.train, chosen), shared.rows(self.valid, chosen)
            self.architecture_step(train, valid, lr)
            self.weight_step(train)

    def architecture_step(self, train: shared.Batch, valid: shared.Batch, lr: float) -> None:
        """Train the architecture weights, and nothing else, on the second half."""
        slopes = architecture_gradient(self.network, train, valid, xi=lr if self.settings.order == 2 else 0.0)
        for alpha, slope in zip(self.alphas, slopes, strict=True):
            alpha.grad = slope
        self.architect.step()

    def weight_step(self, train: shared.Batch) -> None:
        """Train the weights, and nothing else, on the first half."""
        slopes = torch.autograd.grad(loss_of(self.network, train), self.weights)
        for weight, slope in zip(self.weights, slopes, strict=True):
            weight.grad = slope
        torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.optimiser.step()

    def metrics(self, data: Data) -> dict[str, object]:
        """What a segment reports after an epoch."""
        with torch.no_grad():
            blend = shared.blend(self.network)
            self.network.choose(blend)
            loss, accuracy = loop.evaluate(self.network, data.valid)
        shares = {group: share.tolist() for group, share in blend.items()}
        whole = {PROGRESS: self.epoch / self.settings.epochs, "supernet/accuracy": accuracy, "supernet/loss": loss}
        alpha = weights_told(self.network.topology, shares)
        told = shared.report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, **told, **whole, **alpha}

    def derived(self) -> list[Choice]:
        """The networks that weigh most among those which are no larger than they may be, the first most."""
        shares = {group: share.tolist() for group, share in shared.blend(self.network).items()}
        return self.bounds.first(ranked(self.network.topology, shares, self.settings.inputs), self.settings.retrain)


def loss_of(network: Network, batch: shared.Batch) -> Tensor:
    """Cross-entropy of the supernet on a batch of images and labels."""
    network.choose(shared.blend(network))
    return torch.nn.functional.cross_entropy(network(batch[0]), batch[1])


def architecture_gradient(network: Network, train: shared.Batch, valid: shared.Batch, xi: float) -> list[Tensor]:
    """Slope of the validation loss at the architecture weights, after a step ``xi`` of the weights (equation 7).

    The weights are what they were, bit for bit, when it returns.
    """
    alphas, weights = list(network.architecture_weights().values()), network.weights()
    if xi == 0:
        return list(torch.autograd.grad(loss_of(network, valid), alphas))
    before = [each.detach().clone() for each in weights]
    _put(weights, _moved(before, torch.autograd.grad(loss_of(network, train), weights), -xi))  # w' = w - xi grad
    slopes = torch.autograd.grad(loss_of(network, valid), [*alphas, *weights])
    direct, ways = slopes[: len(alphas)], slopes[len(alphas) :]
    epsilon = EPSILON / float(torch.sqrt(sum((way**2).sum() for way in ways)) + 1e-12)  # type: ignore[arg-type]
    sides: list[tuple[Tensor, ...]] = []
    for side in (epsilon, -epsilon):  # equation 8
        _put(weights, _moved(before, ways, side))
        sides.append(torch.autograd.grad(loss_of(network, train), alphas))
    _put(weights, before)
    return [
        each - xi * (plus - minus) / (2 * epsilon) for each, plus, minus in zip(direct, sides[0], sides[1], strict=True)
    ]


def _moved(before: Iterable[Tensor], ways: Iterable[Tensor], step: float) -> list[Tensor]:
    """Some weights after a step along some ways."""
    return [here + step * way for here, way in zip(before, ways, strict=True)]


def _put(weights: list[nn.Parameter], values: Iterable[Tensor]) -> None:
    """Give weights other values."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
