"""The search of DARTS: weights and architecture weights trained in turns, each on half of the training images.

Paper: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019, section 2.3, algorithm 1, equations 5 to 8.
Departs from it: the unrolled step of the weights is plain gradient descent, without momentum.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from katib_flow.models.build import Network
from katib_flow.models.choices import PROGRESS, choice_metrics
from katib_flow.models.topology import Topology
from katib_flow.training import classify
from katib_flow.training.data import Data, load_data
from katib_flow.training.loop import batches, cosine, evaluate
from katib_flow.training.shared import Batch, halves, on_device, report, restored, rows, segment, supernet_of_trial
from katib_flow.trial import user

EPSILON = 0.01  # of equation 8, over the norm of the gradient


@dataclass(frozen=True)
class Recipe:
    """How to search; the defaults are the paper's.

    Attributes:
        epochs: of the whole search, along which ``lr`` falls to ``lr_end``.
        order: 2 differentiates through a step of the weights; 1 takes them as they are.
        inputs: edges that each node of the derived architecture keeps.
    """

    epochs: int = 50
    order: int = 2
    inputs: int = 2
    batch: int = 64
    lr: float = 0.025
    lr_end: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3


def search(
    *,
    data: str = "digits",
    train_size: int | None = None,
    search_epochs: int = 50,
    segment_epochs: int | None = None,
    order: int = 2,
    inputs: int = 2,
    search_batch: int = 64,
    search_lr: float = 0.025,
    search_lr_end: float = 0.001,
    alpha_lr: float = 3e-4,
    alpha_weight_decay: float = 1e-3,
    seed: int = 0,
    threads: int = 1,
    **training: Any,
) -> Iterator[dict[str, object]]:
    """A trial of ``darts``: a segment of the search where its topology is a supernet, else as ``classify``.

    After every epoch a segment yields how far the search is, the weights of all choices (``alpha/<slot>/...``), what is
    derived from them (``choice/<slot>/...``), its ``accuracy`` and ``loss`` with the shared weights, on the validation
    images, which no half has, and the same of the supernet.

    Args:
        segment_epochs: that this trial trains; all of ``search_epochs`` where it is left out.
        training: arguments of ``classify``, for the derived architecture.
    """
    if not user.topology().flat.groups:
        yield from classify(data=data, train_size=train_size, seed=seed, threads=threads, **training)
        return
    recipe = Recipe(search_epochs, order, inputs, search_batch, search_lr, search_lr_end)
    recipe = replace(recipe, alpha_lr=alpha_lr, alpha_weight_decay=alpha_weight_decay)
    images = load_data(data, train_size)
    network = supernet_of_trial(images, seed=seed, threads=threads)
    state, begun = restored()
    bilevel = Bilevel(network, images, recipe, seed=seed, state=state)
    yield from segment(bilevel, min(recipe.epochs, begun + (segment_epochs or recipe.epochs)), images)


class Bilevel:
    """A search under way.

    Attributes:
        epoch: how many are over.
    """

    def __init__(self, network: Network, data: Data, recipe: Recipe, *, seed: int = 0, state: Any = None) -> None:
        self.network, self.recipe, self.seed, self.epoch = network, recipe, seed, 0
        self.train, self.valid = (on_device(network, half) for half in halves(data))
        self.alphas = list(network.architecture_weights().values())
        self.weights = network.weights()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for alpha in self.alphas:
                alpha.copy_(1e-3 * torch.randn(alpha.shape, generator=generator))
        self.optimiser = torch.optim.SGD(
            self.weights, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.architect = torch.optim.Adam(
            self.alphas, lr=recipe.alpha_lr, betas=(0.5, 0.999), weight_decay=recipe.alpha_weight_decay
        )
        if state is not None:
            network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.architect.load_state_dict(state["architect"])
            self.epoch = int(state["epoch"])

    def state(self) -> dict[str, Any]:
        """What a search that goes on needs."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "architect": self.architect.state_dict(),
            "epoch": self.epoch,
        }

    def train_epoch(self) -> None:
        """Algorithm 1, once over both halves: a step of the architecture, a step of the weights."""
        self.network.train()
        self.epoch += 1
        lr = cosine((self.epoch - 1) / self.recipe.epochs, self.recipe.lr, self.recipe.lr_end)
        self.optimiser.param_groups[0]["lr"] = lr
        for chosen in batches(len(self.train[1]), self.recipe.batch, self.seed, self.epoch):
            train, valid = rows(self.train, chosen), rows(self.valid, chosen)
            self.architecture_step(train, valid, lr)
            self.weight_step(train)

    def architecture_step(self, train: Batch, valid: Batch, lr: float) -> None:
        """Train the architecture weights, and nothing else, on the second half."""
        slopes = architecture_gradient(self.network, train, valid, xi=lr if self.recipe.order == 2 else 0.0)
        for alpha, slope in zip(self.alphas, slopes, strict=True):
            alpha.grad = slope
        self.architect.step()

    def weight_step(self, train: Batch) -> None:
        """Train the weights, and nothing else, on the first half."""
        slopes = torch.autograd.grad(loss_of(self.network, train), self.weights)
        for weight, slope in zip(self.weights, slopes, strict=True):
            weight.grad = slope
        nn.utils.clip_grad_norm_(self.weights, self.recipe.clip)
        self.optimiser.step()

    @torch.no_grad()
    def metrics(self, data: Data) -> dict[str, object]:
        """What a segment reports after an epoch."""
        shares = {group: share.tolist() for group, share in blend(self.network).items()}
        self.network.choose(blend(self.network))
        loss, accuracy = evaluate(self.network, data.valid)
        whole = {PROGRESS: self.epoch / self.recipe.epochs, "supernet/accuracy": accuracy, "supernet/loss": loss}
        alpha = {
            name: share
            for slot, names in choice_metrics(self.network.topology, "alpha").items()
            for name, share in zip(names, shares[slot], strict=True)
        }
        choice = derived(self.network.topology, shares, self.recipe.inputs)
        return {"step": self.epoch, **report(self.network, choice, self.train, data.valid), **whole, **alpha}


def derived(supernet: Topology, shares: Mapping[str, Sequence[float]], inputs: int) -> dict[str, int]:
    """The choice of each slot that a search has come to, by its position (section 2.4).

    A node keeps the edges whose heaviest operation, "none" left aside, weighs most; where an edge cannot be "none", it
    stays.

    Args:
        shares: by slot, the weight of each choice.
        inputs: how many edges a node keeps.
    """
    choice: dict[str, int] = {}
    for slots in incoming(supernet):
        names = {slot: supernet.flat.groups[slot] for slot in slots}
        some = {slot: [place for place, name in enumerate(names[slot]) if name != "none"] or [0] for slot in slots}
        best = {slot: max(some[slot], key=shares[slot].__getitem__) for slot in slots}
        heaviest = sorted(slots, key=lambda slot: -shares[slot][best[slot]])
        for rank, slot in enumerate(heaviest):
            gone = rank >= inputs and "none" in names[slot]
            choice[slot] = names[slot].index("none") if gone else best[slot]
    return choice


def incoming(supernet: Topology) -> list[tuple[str, ...]]:
    """The slots of the edges that lead to each node."""
    nodes: dict[tuple[str, str], dict[str, None]] = {}
    for name, graph in supernet.to_dict()["graphs"].items():
        for edge in graph["edges"]:
            if edge["op"] == "mixed":
                nodes.setdefault((name, edge["dst"]), {})[edge["params"]["group"]] = None
    return [tuple(slots) for slots in nodes.values()]


def blend(network: Network) -> Mapping[str, Tensor]:
    """The weights of the choices of each group: the softmax of its architecture weights (equation 2)."""
    return {group: alpha.softmax(dim=0) for group, alpha in network.architecture_weights().items()}


def loss_of(network: Network, batch: Batch) -> Tensor:
    """Cross-entropy of the supernet on a batch of images and labels."""
    network.choose(blend(network))
    return nn.functional.cross_entropy(network(batch[0]), batch[1])


def architecture_gradient(network: Network, train: Batch, valid: Batch, xi: float) -> list[Tensor]:
    """Slope of the validation loss at the architecture weights, after a step ``xi`` of the weights (equation 7).

    The weights are what they were, bit for bit, when it returns.
    """
    alphas, weights = list(network.architecture_weights().values()), network.weights()
    if xi == 0:
        return list(torch.autograd.grad(loss_of(network, valid), alphas))
    before = [each.detach().clone() for each in weights]
    _put(weights, before, torch.autograd.grad(loss_of(network, train), weights), -xi)  # w' = w - xi grad
    slopes = torch.autograd.grad(loss_of(network, valid), [*alphas, *weights])
    direct, ways = slopes[: len(alphas)], slopes[len(alphas) :]
    epsilon = EPSILON / float(torch.sqrt(sum((way**2).sum() for way in ways)) + 1e-12)  # type: ignore[arg-type]
    sides: list[tuple[Tensor, ...]] = []
    for side in (epsilon, -epsilon):  # equation 8
        _put(weights, before, ways, side)
        sides.append(torch.autograd.grad(loss_of(network, train), alphas))
    _put(weights, before, ways, 0.0)
    return [
        each - xi * (plus - minus) / (2 * epsilon) for each, plus, minus in zip(direct, sides[0], sides[1], strict=True)
    ]


@torch.no_grad()
def _put(weights: list[nn.Parameter], at: list[Tensor], ways: tuple[Tensor, ...], step: float) -> None:
    """Weights at some point, or a step away from it."""
    for weight, here, way in zip(weights, at, ways, strict=True):
        weight.copy_(here if step == 0 else here + step * way)
