"""Differentiable search: every edge blends all operations, with weights trained by gradient descent.

Paper: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019, section 2.3, algorithm 1, equations 5 to 8:
weights and architecture weights are trained in turns, each on half of the training images, in segments of one trial
each; the derived networks are trained from scratch.
Departs from it: there is one search, not the best of four with different seeds, but several networks are derived, those
with the largest products of the weights of their choices; in the supernet skips are normalised like pooling, so that
scale alone gives no operation more weight; the unrolled step of the weights is plain gradient descent, without
momentum; the paper's ``alpha_lr`` is for thousands of steps, and a short search needs a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS, weight_values
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

EPSILON = 0.01  # numerator of epsilon in equation 8; the denominator is the norm of the gradient


class DartsSettings(SupernetSettings):
    """Settings of ``darts``."""

    paper: ClassVar = {"epochs": 50, "batch": 64, "lr": 0.025, "alpha_lr": 3e-4, "retrain": 1}
    epochs: Count = 24
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Rate = 3e-4
    order: Literal[1, 2] = 2
    """2, differentiate through a step of the weights; 1, treat the weights as constant, in less than half the time."""
    inputs: Count = 2
    """Number of edges that each node of a derived network keeps."""
    alpha_lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the architecture weights."""
    alpha_weight_decay: Rate = 1e-3
    """Weight decay of the architecture weights."""


def _check(experiment: Experiment, settings: DartsSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "darts", skips=False)


def segment(settings: DartsSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields the progress of the search, the weights of all choices (``alpha/<slot>/...``), the
    choices of the derived network (``choice/<slot>``), its ``accuracy`` and ``loss`` with shared weights on the
    validation images, which are in neither half, and those of the supernet.
    """
    yield from segments.trained(Bilevel, settings, data, seed=seed, threads=threads)


@algorithm(
    "darts", settings=DartsSettings, check=_check, ends=True, segment=segment, strategy="modification", scope="cell"
)
def darts(ask: Ask[DartsSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the derived networks, trained from scratch."""
    return chained(ask, norm=True)


class Bilevel:
    """A running search.

    Attributes:
        epoch: number of completed epochs.
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
        """The state from which the search can continue."""
        return {name: part.state_dict() for name, part in self.parts.items()} | {"epoch": self.epoch}

    def train_epoch(self) -> None:
        """Algorithm 1, once over both halves: alternate steps of the architecture and of the weights."""
        self.network.train()
        self.epoch += 1
        lr = shared.set_rate(self.optimiser, self.settings, self.epoch)
        for chosen in loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch):
            train, valid = shared.rows(self.train, chosen), shared.rows(self.valid, chosen)
            self.architecture_step(train, valid, lr)
            self.weight_step(train)

    def architecture_step(self, train: shared.Batch, valid: shared.Batch, lr: float) -> None:
        """Take a step of the architecture weights only.

        Args:
            train: images of the first half, for the unrolled step of the weights.
            valid: images of the second half, for the loss.
            lr: learning rate of the unrolled step.
        """
        slopes = architecture_gradient(self.network, train, valid, xi=lr if self.settings.order == 2 else 0.0)
        for alpha, slope in zip(self.alphas, slopes, strict=True):
            alpha.grad = slope
        self.architect.step()

    def weight_step(self, train: shared.Batch) -> None:
        """Take a step of the weights only, on images of the first half."""
        slopes = torch.autograd.grad(loss_of(self.network, train), self.weights)
        for weight, slope in zip(self.weights, slopes, strict=True):
            weight.grad = slope
        torch.nn.utils.clip_grad_norm_(self.weights, self.settings.clip)
        self.optimiser.step()

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics of a segment after an epoch."""
        with torch.no_grad():
            blend = shared.blend(self.network)
            self.network.choose(blend)
            loss, accuracy = loop.evaluate(self.network, data.valid)
        shares = {group: share.tolist() for group, share in blend.items()}
        whole = {PROGRESS: self.epoch / self.settings.epochs, "supernet/accuracy": accuracy, "supernet/loss": loss}
        alpha = weight_values(self.network.topology, shares)
        report = shared.report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, **report, **whole, **alpha}

    def derived(self) -> list[Choice]:
        """The choices of the networks with the largest weights within the bounds, in descending order."""
        shares = {group: share.tolist() for group, share in shared.blend(self.network).items()}
        return self.bounds.first(ranked(self.network.topology, shares, self.settings.inputs), self.settings.retrain)


def loss_of(network: Network, batch: shared.Batch) -> Tensor:
    """Cross-entropy of the supernet on a batch of images and labels."""
    network.choose(shared.blend(network))
    return torch.nn.functional.cross_entropy(network(batch[0]), batch[1])


def architecture_gradient(network: Network, train: shared.Batch, valid: shared.Batch, xi: float) -> list[Tensor]:
    """Gradient of the validation loss in the architecture weights, after a step ``xi`` of the weights (equation 7).

    On return the weights have their former values, bit for bit.
    """
    alphas, weights = list(network.architecture_weights().values()), network.weights()
    if xi == 0:
        return list(torch.autograd.grad(loss_of(network, valid), alphas))
    before = [weight.detach().clone() for weight in weights]
    _set(weights, _moved(before, torch.autograd.grad(loss_of(network, train), weights), -xi))  # w' = w - xi grad
    slopes = torch.autograd.grad(loss_of(network, valid), [*alphas, *weights])
    direct, ways = slopes[: len(alphas)], slopes[len(alphas) :]
    epsilon = EPSILON / float(torch.sqrt(sum((way**2).sum() for way in ways)) + 1e-12)  # type: ignore[arg-type]
    sides: list[tuple[Tensor, ...]] = []
    for side in (epsilon, -epsilon):  # equation 8
        _set(weights, _moved(before, ways, side))
        sides.append(torch.autograd.grad(loss_of(network, train), alphas))
    _set(weights, before)
    return [
        slope - xi * (plus - minus) / (2 * epsilon)
        for slope, plus, minus in zip(direct, sides[0], sides[1], strict=True)
    ]


def _moved(before: Iterable[Tensor], ways: Iterable[Tensor], step: float) -> list[Tensor]:
    """Some weights after a step in some directions."""
    return [here + step * way for here, way in zip(before, ways, strict=True)]


def _set(weights: list[nn.Parameter], values: Iterable[Tensor]) -> None:
    """Set weights to some values in place."""
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
