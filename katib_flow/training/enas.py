"""The search of ENAS: shared weights and a controller, trained in turns, each on half of the training images.

Paper: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018, section 2.2; the controller
is that of ``katib_flow.algorithms.nas.controller``. A child is a one-hot choice on the supernet: its weights are the
shared ones, and what it does not reach is not run, and not changed.
Departs from it: the controller begins to learn when the shared weights have been trained for a while, because the
children that it likes are trained more and look better for it, so that what is liked by chance at first would stay so;
the reward is less the loss of a batch, not its accuracy, and what is derived is the best by its loss on all of the
second half, because accuracies on few images tie; an update of the controller is from a batch of children, not one by
one, at a larger rate, for hundreds of rewards instead of hundreds of thousands; normalisation has no scale and shift.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from katib_flow.algorithms.nas.controller import Controller, Shape
from katib_flow.models.build import Network
from katib_flow.models.choices import PROGRESS
from katib_flow.models.flat import Flat
from katib_flow.models.optional import optional_groups, optional_layers
from katib_flow.training import classify
from katib_flow.training.data import Data, load_data
from katib_flow.training.loop import batches, cosine
from katib_flow.training.shared import (
    Batch,
    columns,
    halves,
    on_device,
    one_hot,
    report,
    restored,
    rows,
    segment,
    statistics_kept,
    supernet_of_trial,
    unread_kept,
)
from katib_flow.trial import user

SQUASH, SPREAD, DECAY = 2.5, 0.1, 0.95  # of the controller's logits, its first weights, and the baseline


@dataclass(frozen=True)
class Recipe:
    """How to search.

    Attributes:
        epochs: of the whole search, along which ``lr`` falls to ``lr_end``; in each, a pass over the first half with
            a fresh child for every batch, then ``updates`` of the controller, each from ``children`` rewards.
        warm_up: epochs before the first of these updates, while children are drawn evenly.
        candidates: children drawn at the end of an epoch, of which the best on the second half is derived.
        reward_batch: images of a reward.
        skip_rate, skip_weight: edges that may be there or not are drawn towards being there at this rate: the weight of
            the divergence KL(policy, rate) that is subtracted from the reward, summed over the edges of a vertex, the
            mean over vertices (the authors' code; section 3.2).
    """

    epochs: int = 120
    warm_up: int = 40
    batch: int = 32
    lr: float = 0.05
    lr_end: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    updates: int = 1
    children: int = 8
    reward_batch: int = 64
    candidates: int = 30
    controller_lr: float = 0.02
    units: int = 64
    entropy: float = 0.01
    skip_rate: float = 0.4
    skip_weight: float = 0.8


def search(
    *,
    data: str = "digits",
    train_size: int | None = None,
    search_epochs: int = 120,
    segment_epochs: int | None = None,
    warm_up: int | None = None,
    search_batch: int = 32,
    search_lr: float = 0.05,
    search_lr_end: float = 0.001,
    updates: int = 1,
    children: int = 8,
    reward_batch: int = 64,
    candidates: int = 30,
    controller_lr: float = 0.02,
    units: int = 64,
    entropy: float = 0.01,
    skip_rate: float = 0.4,
    skip_weight: float = 0.8,
    seed: int = 0,
    threads: int = 1,
    **training: Any,
) -> Iterator[dict[str, object]]:
    """A trial of ``enas``: a segment of the search where its topology is a supernet, else as ``classify``.

    After every epoch a segment yields how far the search is, which architecture it would derive
    (``choice/<slot>/...``), its ``accuracy`` and ``loss`` with the shared weights, on the validation images, which no
    half has, and the mean reward of the controller.

    Args:
        segment_epochs: that this trial trains; all of ``search_epochs`` where it is left out.
        warm_up: see ``Recipe``; a third of ``search_epochs`` where it is left out.
        updates, children, reward_batch, candidates: see ``Recipe``.
        units: of the controller's LSTM.
        entropy: weight of the entropy of the controller's decisions in what it maximises.
        skip_rate, skip_weight: the share of skips that the controller is drawn towards, and how strongly.
        training: arguments of ``classify``, for the derived architecture.
    """
    if not user.topology().flat.groups:
        yield from classify(data=data, train_size=train_size, seed=seed, threads=threads, **training)
        return
    recipe = Recipe(
        epochs=search_epochs, warm_up=search_epochs // 3 if warm_up is None else warm_up, batch=search_batch,
        lr=search_lr, lr_end=search_lr_end, updates=updates, children=children, reward_batch=reward_batch,
        candidates=candidates, controller_lr=controller_lr, units=units, entropy=entropy,
        skip_rate=skip_rate, skip_weight=skip_weight,
    )  # fmt: skip
    images = load_data(data, train_size)
    network = supernet_of_trial(images, seed=seed, threads=threads)
    state, begun = restored()
    sharing = Sharing(network, images, recipe, seed=seed, state=state)
    yield from segment(sharing, min(recipe.epochs, begun + (segment_epochs or recipe.epochs)), images)


class Sharing:
    """A search under way.

    Attributes:
        epoch: how many are over.
        slots: the decisions, in the order in which the controller makes them.
    """

    def __init__(self, network: Network, data: Data, recipe: Recipe, *, seed: int = 0, state: Any = None) -> None:
        self.network, self.recipe, self.seed, self.epoch, self.reward = network, recipe, seed, 0, 0.0
        self.train, self.valid = (on_device(network, half) for half in halves(data))
        self.slots = tuple(network.flat.groups)
        choices = tuple(len(names) for names in network.flat.groups.values())
        shape = Shape(
            choices, units=recipe.units, layers=1, spread=SPREAD, squash=SQUASH, entropy=recipe.entropy,
            wanted=wanted(network.flat, recipe),
        )  # fmt: skip
        self.columns = columns(network)
        self.controller = Controller.drawn(shape, np.random.default_rng(seed))
        self.optimiser = torch.optim.SGD(
            network.weights(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        if state is not None:
            network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.controller = self.controller.restored(state["controller"])
            self.epoch, self.reward = int(state["epoch"]), float(state["reward"])

    def state(self) -> dict[str, Any]:
        """What a search that goes on needs."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "controller": {name: torch.as_tensor(np.asarray(each)) for name, each in self.controller.state().items()},
            "epoch": self.epoch,
            "reward": self.reward,
        }

    def train_epoch(self) -> None:
        """The two phases: the shared weights, then the controller."""
        self.epoch += 1
        rng = np.random.default_rng((self.seed, self.epoch))
        self.optimiser.param_groups[0]["lr"] = cosine(
            (self.epoch - 1) / self.recipe.epochs, self.recipe.lr, self.recipe.lr_end
        )
        for chosen in batches(len(self.train[1]), self.recipe.batch, self.seed, self.epoch):
            self.weight_step(self.drawn(rng), rows(self.train, chosen))
        updates = self.recipe.updates if self.epoch > self.recipe.warm_up else 0
        rewards = [self.controller_step(rng) for _ in range(updates)]
        self.reward = float(np.mean(rewards)) if rewards else self.reward

    def drawn(self, rng: np.random.Generator) -> dict[str, int]:
        """An architecture that the controller decides on."""
        return dict(zip(self.slots, self.controller.sample(rng), strict=True))

    def weight_step(self, child: dict[str, int], batch: Batch) -> None:
        """Train the weights that a child reaches; no other, and not the controller."""
        self.network.train()
        self.network.choose(one_hot(self.network, child))
        self.optimiser.zero_grad(set_to_none=True)  # what has no gradient is left alone, its momentum too
        loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        if loss.requires_grad:
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.weights(), self.recipe.clip)
            with unread_kept(self.columns, child, self.optimiser):
                self.optimiser.step()

    def controller_step(self, rng: np.random.Generator) -> float:
        """Train the controller by how some children do, each on a batch of the second half; their mean reward."""
        children = [self.drawn(rng) for _ in range(self.recipe.children)]
        drawn = (rng.permutation(len(self.valid[1]))[: self.recipe.reward_batch] for _ in children)
        rewards = np.array([-self.loss(child, some) for child, some in zip(children, drawn, strict=True)])
        tokens = np.array([tuple(child.values()) for child in children])
        self.controller = self.controller.learnt(tokens, rewards, lr=self.recipe.controller_lr, decay=DECAY)
        return float(rewards.mean())

    @torch.no_grad()
    def loss(self, child: dict[str, int], chosen: np.ndarray | None = None) -> float:
        """Of a child with the shared weights on images of the second half, or all; nothing shared is changed."""
        images, labels = self.valid if chosen is None else rows(self.valid, chosen)
        self.network.choose(one_hot(self.network, child))
        self.network.train()  # normalisation by the batch: running statistics are those of no child
        with statistics_kept(self.network):
            return float(nn.functional.cross_entropy(self.network(images), labels))

    def derived(self) -> dict[str, int]:
        """The best of some children on the second half (section 2.3)."""
        rng = np.random.default_rng((self.seed, self.epoch, 1))
        children = [self.drawn(rng) for _ in range(self.recipe.candidates)]
        return min(children, key=self.loss)

    def metrics(self, data: Data) -> dict[str, object]:
        """What a segment reports after an epoch."""
        told = report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, PROGRESS: self.epoch / self.recipe.epochs, "reward": self.reward, **told}


def wanted(flat: Flat, recipe: Recipe) -> tuple[tuple[int, tuple[float, ...], float], ...]:
    """The decisions on edges that may be out, each with the distribution that it is drawn towards, and how strongly."""
    positions, slots = optional_groups(flat), list(flat.groups)
    vertices = {edge.dst for edge in flat.edges if optional_layers(edge)}
    rate = recipe.skip_rate
    return tuple(
        (slots.index(slot), (1 - rate, rate) if position else (rate, 1 - rate), recipe.skip_weight / len(vertices))
        for slot, position in positions.items()
    )
