"""Parameter sharing: all architectures share the weights of a supernet, on which a controller learns which are good.

Paper: Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018, section 2.2. A child is a
one-hot choice on the supernet: it uses the shared weights, and parts that it does not use are neither run nor changed.
Shared weights and controller are trained in turns, each on half of the training images, in segments of one trial each,
because a reward takes only one batch; the derived networks (section 2.3) are trained from scratch.
Slots are operations of edges, whether an edge exists (``macro``), and its source (``pairs``).
Departs from it: the controller initially prefers operations with weights, which need the training, and learns only
after these have trained for a while. The children to train are drawn by the initial controller, at any size, because
those that a trained controller prefers would look better merely for having been trained. So is half of the candidates
at the end, because a converged controller proposes nearly always the same network; the best few are trained from
scratch. A reward is minus the loss on a batch, not the accuracy; an update uses children on the same images, and a
larger learning rate, for hundreds of rewards instead of hundreds of thousands. The learning rate of the weights falls
along one cosine; normalisation has no scale.
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

SQUASH, SPREAD, DECAY = 2.5, 0.1, 0.95  # the controller's bound of logits, initial weights, and decay of the baseline
DRAWS = 30  # draws per candidate, because many are repeats or exceed the bounds


class EnasSettings(WarmUpSettings):
    """Settings of ``enas``."""

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
    """Number of updates of the controller per epoch, after the weights have been trained on the first half."""
    children: Count = 8
    """Number of children, and of rewards, per update."""
    reward_batch: Count = 64
    """Number of images for the rewards of an update."""
    candidates: Count = 100
    """Number of different children drawn at the end of the search; the best on the second half are derived."""
    weighted: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Initial least probability of operations with weights; 0 draws uniformly."""
    controller_lr: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate of the controller."""
    units: Annotated[int, Field(ge=1, le=512)] = 64
    """Number of units of the controller's LSTM."""
    entropy: Rate = 0.01
    """Weight of the entropy of the decisions in the controller's objective."""
    skip_rate: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Target probability that an optional edge exists (section 3.2)."""
    skip_weight: Rate = 0.8
    """Weight of KL(policy, skip_rate), summed over the edges of a vertex and averaged over vertices."""


def _check(experiment: Experiment, settings: EnasSettings) -> Iterator[SpecError]:
    yield from needs_supernet(experiment, "enas", skips=True)


def segment(settings: EnasSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train a part of the search.

    After every epoch it yields the progress of the search, the mean reward, the choices of the best child of the last
    update (after the last epoch, of the best candidates), and its ``accuracy`` and ``loss`` with shared weights on the
    validation images.
    """
    yield from segments.trained(Sharing, settings, data, seed=seed, threads=threads)


@algorithm(
    "enas", settings=EnasSettings, check=_check, ends=True, segment=segment,
    strategy="generation", scope=("network", "cell"),
)  # fmt: skip
def enas(ask: Ask[EnasSettings]) -> list[Suggestion]:
    """Segments of the search, one at a time; then the derived networks, trained from scratch."""
    return chained(ask)


class Sharing:
    """A running search.

    Attributes:
        epoch: number of completed epochs.
        slots: the slots, in the order in which the controller decides on them.
        untaught: the initial controller.
        best: the best child of the controller's last update.
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
        """The state from which the search can continue."""
        kept = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**kept, "controller": self.controller.state(), "epoch": self.epoch, "reward": self.reward}

    def train_epoch(self) -> None:
        """Train the shared weights, then the controller."""
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
        """Endless samples of the controller, or of another one."""
        for _ in itertools.count():
            yield dict(zip(self.slots, (decider or self.controller).sample(rng)[0].tolist(), strict=True))

    def weight_step(self, child: Choice, batch: shared.Batch) -> None:
        """Train the shared weights that a child uses, and no others."""
        shared.child_step(self.network, child, batch, self.optimiser, self.columns, self.settings.clip)

    def controller_step(self, rng: np.random.Generator) -> float:
        """Train the controller by the rewards of some children on one batch of the second half; returns their mean."""
        children = list(itertools.islice(self.bounds.within(self.children(rng)), self.settings.children))
        chosen = rng.permutation(len(self.valid[1]))[: self.settings.reward_batch]
        rewards = np.array([-self.loss(child, chosen) for child in children])
        tokens = np.array([tuple(child.values()) for child in children])
        self.controller.learn(tokens, rewards)
        self.best = children[int(rewards.argmax())]
        return float(rewards.mean())

    def loss(self, child: Choice, chosen: np.ndarray | None = None) -> float:
        """The loss of a child with shared weights, which stay unchanged.

        Args:
            chosen: positions of images in the second half; all by default.
        """
        return shared.child_loss(self.network, child, self.valid if chosen is None else shared.rows(self.valid, chosen))

    def derived(self) -> list[Choice]:
        """The best candidates on the second half (section 2.3); before the end, the best child of the last update."""
        if self.epoch >= self.settings.epochs:
            return sorted(self.candidates(), key=self.loss)[: self.settings.retrain]
        return [self.best or self.candidates(1)[0]]

    def candidates(self, count: int | None = None) -> list[Choice]:
        """Different networks, sampled in turns from the controller and the initial controller."""
        rng, wanted = np.random.default_rng((self.seed, self.epoch, 1)), count or self.settings.candidates
        both = zip(self.children(rng), self.children(rng, self.untaught), strict=True)
        return self.bounds.first(itertools.islice(itertools.chain.from_iterable(both), DRAWS * wanted), wanted)

    def metrics(self, data: Data) -> dict[str, object]:
        """The metrics of a segment after an epoch."""
        report = shared.report(self.network, self.derived(), self.train, data.valid)
        return {"step": self.epoch, PROGRESS: self.epoch / self.settings.epochs, "reward": self.reward, **report}
