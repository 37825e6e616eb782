"""Weights shared by all architectures: a controller learns on a supernet which of them is good, in one training.

Paper: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018, section 2.2. A child is a
one-hot choice on the supernet: its weights are the shared ones, and what it does not reach is not run, and not changed.
Shared weights and controller are trained in turns, each on half of the training images, in segments of a trial each,
because a reward is a glance at one batch; what the controller chose (section 2.3) is trained from scratch.
Slots are operations of edges, whether an edge is there (``macro``), and its source (``pairs``).
Departs from it: the controller begins with a lean towards operations with weights, which need the training, and learns
once these have trained for a while. Children that train are drawn by what it was before it learnt, at any size: those
that it likes would look better for their training. So are half of the candidates at the end, as one that has settled
proposes nearly one network; the best few are trained from scratch. A reward is less the loss on a batch, not its
accuracy; an update is from children on the same images, at a larger rate, for hundreds of rewards, not hundreds of
thousands. The weights' learning rate falls along one cosine; normalisation has no scale.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.models.choices import PROGRESS
from katib_flow.models.optional import pulled
from katib_flow.nas.door import Later
from katib_flow.nas.relax.chain import Rate, WarmUpSettings, chained, needs_supernet
from katib_flow.nas.relax.choice import Bounds, Choice, leaning
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count

if TYPE_CHECKING:
    from katib_flow.models.build import Network
    from katib_flow.nas import controller
    from katib_flow.nas.relax import segments, shared
    from katib_flow.training import loop
    from katib_flow.training.data import Data
else:
    controller, loop = Later("katib_flow.nas.controller"), Later("katib_flow.training.loop")
    segments, shared = Later("katib_flow.nas.relax.segments"), Later("katib_flow.nas.relax.shared")

SQUASH, SPREAD, DECAY = 2.5, 0.1, 0.95  # of the controller's logits, its first weights, and the baseline
DRAWS = 30  # for each candidate, as many are networks drawn already, or larger than they may be


class EnasSettings(WarmUpSettings):
    paper: ClassVar = {
        "epochs": 310, "batch": 128, "weight_decay": 1e-4, "warm_up": 0, "updates": 2000, "children": 1,
        "reward_batch": 128, "candidates": 10, "weighted": 0.0, "controller_lr": 3.5e-4, "units": 100, "entropy": 1e-4,
        "retrain": 1,
    }  # fmt: skip
    epochs: Count = 40
    batch: Count = 32
    lr: Annotated[float, Field(gt=0)] = 0.05
    weight_decay: Rate = 5e-4
    updates: Annotated[int, Field(ge=0)] = 1
    """Of the controller in an epoch, after a pass over the first half with a fresh child for every batch."""
    children: Count = 8
    """Rewards of an update."""
    reward_batch: Count = 64
    """Images of a reward."""
    candidates: Count = 100
    """Different children drawn at the end of the search, of which the best on the second half are derived."""
    weighted: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """The least share of operations with weights in what the controller draws at first; 0 to draw evenly."""
    controller_lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the controller."""
    units: Annotated[int, Field(ge=1, le=512)] = 64
    """Of the controller's LSTM."""
    entropy: Rate = 0.01
    """Weight of the entropy of the controller's decisions in what it maximises."""
    skip_rate: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Edges that may be there or not are drawn towards being there at this rate (section 3.2)."""
    skip_weight: Rate = 0.8
    """How strongly: the weight of KL(policy, rate), summed over the edges of a vertex, the mean over vertices."""


def _check(experiment: Experiment, settings: EnasSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "enas", skips=True)


def segment(settings: EnasSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields how far the search is, the mean reward, the best child of the epoch's update (after the
    last epoch the best candidates), its ``accuracy`` and ``loss`` by shared weights on the validation images.
    """
    yield from segments.trained(Sharing, settings, data, seed=seed, threads=threads)


@algorithm(
    "enas", settings=EnasSettings, check=_check, ends=True, segment=segment,
    strategy="generation", scope=("network", "cell"),
)  # fmt: skip
def enas(ask: Ask[EnasSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the best few networks, from scratch."""
    return chained(ask)


class Sharing:
    """A search under way.

    Attributes:
        epoch: how many are over.
        slots: the decisions, in the order in which the controller makes them.
        untaught: what the controller was before it learnt.
        best: child of the last update of the controller.
    """

    def __init__(self, network: Network, data: Data, settings: EnasSettings, seed: int = 0, state: Any = None) -> None:
        self.network, self.settings, self.seed, self.epoch, self.reward = network, settings, seed, 0, 0.0
        self.best: Choice | None = None
        self.train, self.valid = (shared.on_device(network, half) for half in shared.halves(data))
        self.slots = tuple(network.flat.groups)
        choices = tuple(len(names) for names in network.flat.groups.values())
        shape = controller.Shape(choices, units=settings.units, layers=1, spread=SPREAD, squash=SQUASH)
        wanted = pulled(network.flat, settings.skip_rate, settings.skip_weight)
        teaching = controller.Teaching(settings.controller_lr, DECAY, entropy=settings.entropy, wanted=wanted)
        self.columns = shared.columns(network)
        self.controller = controller.Controller(shape, teaching, seed)
        self.controller.policy.lean(leaning(network.topology, settings.weighted, SQUASH))
        self.untaught = copy.deepcopy(self.controller)
        self.bounds = Bounds(network.topology, settings.max_parameters, settings.max_flops)
        self.optimiser = shared.weights_optimiser(network, settings, nesterov=True)
        if state is not None:
            network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.controller.restore(state["controller"])
            self.epoch, self.reward = int(state["epoch"]), float(state["reward"])

    def state(self) -> dict[str, Any]:
        """What a search that goes on needs."""
        kept = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**kept, "controller": self.controller.state(), "epoch": self.epoch, "reward": self.reward}

    def train_epoch(self) -> None:
        """The two phases: the shared weights, then the controller."""
        self.epoch += 1
        rng = np.random.default_rng((self.seed, self.epoch))
        shared.set_rate(self.optimiser, self.settings, self.epoch)
        images = loop.batches(len(self.train[1]), self.settings.batch, self.seed, self.epoch)
        for chosen, child in zip(images, self.children(rng, self.untaught), strict=False):
            self.weight_step(child, shared.rows(self.train, chosen))
        updates = self.settings.updates if self.epoch > self.settings.warm_up_epochs else 0
        rewards = [self.controller_step(rng) for _ in range(updates)]
        self.reward = float(np.mean(rewards)) if rewards else self.reward

    def children(self, rng: np.random.Generator, decider: controller.Controller | None = None) -> Iterator[Choice]:
        """Architectures that the controller decides on, or another one."""
        for _ in itertools.count():
            yield dict(zip(self.slots, (decider or self.controller).sample(rng)[0].tolist(), strict=True))

    def weight_step(self, child: Choice, batch: shared.Batch) -> None:
        """Train the weights that a child reaches; no other, and not the controller."""
        shared.child_step(self.network, child, batch, self.optimiser, self.columns, self.settings.clip)

    def controller_step(self, rng: np.random.Generator) -> float:
        """Train the controller by how some children do, all on one batch of the second half; their mean reward."""
        children = list(itertools.islice(self.bounds.within(self.children(rng)), self.settings.children))
        chosen = rng.permutation(len(self.valid[1]))[: self.settings.reward_batch]
        rewards = np.array([-self.loss(child, chosen) for child in children])
        tokens = np.array([tuple(child.values()) for child in children])
        self.controller.learn(tokens, rewards)
        self.best = children[int(rewards.argmax())]
        return float(rewards.mean())

    def loss(self, child: Choice, chosen: np.ndarray | None = None) -> float:
        """Of a child with the shared weights on images of the second half, or all; nothing shared is changed."""
        return shared.child_loss(self.network, child, self.valid if chosen is None else shared.rows(self.valid, chosen))

    def derived(self) -> list[Choice]:
        """The best candidates on all of the second half (section 2.3); before the end, the best child of an update."""
        if self.epoch >= self.settings.epochs:
            return sorted(self.candidates(), key=self.loss)[: self.settings.retrain]
        return [self.best or self.candidates(1)[0]]

    def candidates(self, count: int | None = None) -> list[Choice]:
        """Different networks, in turns of the controller and of what it was before it learnt."""
        rng, wanted = np.random.default_rng((self.seed, self.epoch, 1)), count or self.settings.candidates
        both = zip(self.children(rng), self.children(rng, self.untaught), strict=True)
        return self.bounds.first(itertools.islice(itertools.chain.from_iterable(both), DRAWS * wanted), wanted)

    def metrics(self, data: Data) -> dict[str, object]:
        """What a segment reports after an epoch."""
        told = shared.report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, PROGRESS: self.epoch / self.settings.epochs, "reward": self.reward, **told}
