"""An ensemble that grows by one subnetwork per round, as deep as its deepest or one layer deeper.

Paper: Cortes et al., "AdaNet: Adaptive Structural Learning of Artificial Neural Networks", ICML 2017, section 4 and
Algorithm 1. A round trains two candidates next to the ensemble, which stays fixed, and keeps the one with the lower
F(w) = mean loss of sum_k w_k h_k + sum_k (complexity r_k + penalty) |w_k| on the training images (equation 4), which
comes from a bound on the error; the search ends when F does not fall. ``mixture`` minimises F over w, in which it is
convex; ``spaces.ensemble`` has the subnetworks, whose layers read those of all earlier subnetworks.
Reads: ``ensemble/objective``, the F of a candidate; never its accuracy.
Departs from it: the loss is the cross-entropy over all classes (for two, the logistic loss of the paper). r_k is the
square root of the depth, instead of the Rademacher complexity of the family. A subnetwork is trained by gradient
descent without the penalty, with standardised outputs instead of a bound on its weights; then all weights of the
mixture are fitted, not only the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, nan, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import State, Suggestion, Trial
from katib_flow.models.spaces.ensemble import Ensemble, ensemble_network
from katib_flow.models.topology import Topology
from katib_flow.nas.door import Later
from katib_flow.nas.mixture import Array
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING
from katib_flow.spec.trainer import TRAINER

if TYPE_CHECKING:
    from katib_flow.models.build import Network
    from katib_flow.nas import ensemble
    from katib_flow.training import loop, trial
    from katib_flow.training.data import Data
    from katib_flow.trial import user
else:
    ensemble, loop = Later("katib_flow.nas.ensemble"), Later("katib_flow.training.loop")
    trial, user = Later("katib_flow.training.trial"), Later("katib_flow.trial.user")

OBJECTIVE = "ensemble/objective"
FALL = 1e-5  # decreases of F below this are rounding errors
RECIPE = ("epochs", "batch", "lr", "momentum", "weight_decay")
TAKEN = ("data", "train_size", "seed", "threads")  # the arguments of the trainer that adanet uses
Rate = Annotated[float, Field(ge=0)]


class AdaNetSettings(SystemSettings):
    """Settings of ``adanet``; the symbols of the paper stand first."""

    paper: ClassVar = {"rounds": 30, "complexity": 1e-6, "epochs": 100, "batch": 100, "weight_decay": 0.0}
    rounds: Count = 8
    """Largest number of rounds; the search ends earlier if F does not fall."""
    complexity: Rate = 3e-3
    """lambda: weight of the complexity of a subnetwork, the square root of its depth, in the penalty on its weight."""
    penalty: Rate = 0.0
    """beta: the constant part of the penalty on a weight."""
    epochs: Count = 5
    """Number of epochs that each candidate is trained."""
    batch: Count = 32
    """Batch size."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Initial learning rate, which falls to 0 along a cosine."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the stochastic gradient descent."""
    weight_decay: Rate = 0.01
    """Weight decay of a candidate."""

    def penalties(self, depths: Sequence[int]) -> Array:
        """The penalties on the weights of subnetworks with some depths, shape (member,)."""
        return np.array([self.complexity * sqrt(depth) + self.penalty for depth in depths])


def _check(experiment: Experiment, settings: AdaNetSettings) -> Iterator[SpecError]:
    need = "the space ensemble, because adanet adds subnetworks to an ensemble"
    if experiment.architecture is None:
        yield SpecError("architecture", NOTHING, need)
        return
    if (space := architectures(experiment)) is None or space.slots or "ensemble" not in space.initial.meta:
        yield SpecError("architecture.space", experiment.architecture.space, need)
    if experiment.trial.function == TRAINER:
        for name in experiment.trial.arguments:
            if name not in TAKEN:
                need = f"one of {', '.join(TAKEN)}; other settings of the training belong to algorithm.settings"
                yield SpecError(f"trial.arguments.{name}", name, need)


def train(settings: AdaNetSettings, data: Data, *, seed: int = 0, threads: int = 1) -> Iterator[dict[str, object]]:
    """Train the last subnetwork of the trial's ensemble, then fit the weights of all.

    Yields accuracy and loss after every epoch, and at the end also F on the training images, and the weights as
    ``mixture/<member>``.
    """
    network: Network = trial.network_of_trial(
        lambda topology: trial.check_images(topology, data), seed=seed, threads=threads
    )
    depths = network.topology.meta["depths"]
    recipe = loop.Recipe(**{name: getattr(settings, name) for name in RECIPE})
    checkpoint = user.checkpoint_dir() / trial.CHECKPOINT
    how: Any = {"seed": seed, "checkpoint": checkpoint, "stop": user.should_stop}
    try:
        for epoch in ensemble.train_last(network, len(depths), data, recipe, **how):
            yield {"step": epoch.number, "accuracy": epoch.valid_accuracy, "loss": epoch.valid_loss}
        fit = ensemble.weigh(network, data.train, settings.penalties(depths))
        loss, accuracy = loop.evaluate(network, data.valid)
        weights = {f"mixture/{member}": float(weight) for member, weight in enumerate(fit.weights, 1)}
        last = {"step": settings.epochs + 1, "accuracy": accuracy, "loss": loss, "depth": depths[-1]}
        yield {**last, OBJECTIVE: fit.value, **weights}
    finally:
        user.save_model(network)
    checkpoint.unlink(missing_ok=True)


@algorithm(
    "adanet", settings=AdaNetSettings, check=_check, ends=True, train=train, strategy="modification", scope="cell"
)
def adanet(ask: Ask[AdaNetSettings]) -> list[Suggestion]:
    """Both candidates of a round together; those of the next round when both have ended.

    If one candidate failed, the other one wins; if both failed, both are tried again.

    Raises:
        KatibFlowError: a trial did not report F.
    """
    best: Trial | None = None
    for number in range(ask.settings.rounds):
        members = [trial for trial in ask.history if trial.suggestion.info.get("round") == number]
        members = [trial for trial in members if trial.state is not State.KILLED]
        results = [trial for trial in members if _has_result(trial)]
        wanted = candidates(_depths(best) if best else ())
        tries = [sum(_depths(trial) == depths for trial in members) for depths in wanted]
        ended = all(trial.state.final for trial in members)
        least = min(tries) + 1 if ended and not results else 1
        if missing := [depths for depths, count in zip(wanted, tries, strict=True) if count < least]:
            pairs = zip(ask.indices, missing, strict=False)
            return [_candidate(ask, best, number, index, depths) for index, depths in pairs]
        if not ended:
            break
        winner = min(results, key=_value)
        if best is not None and _value(winner) >= _value(best) - FALL:
            break
        best = winner
    return []


def candidates(depths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The depths of the two next ensembles: with a subnetwork as deep as the deepest, and with one deeper by 1."""
    deepest = max(depths, default=1)
    return [(*depths, deepest), (*depths, deepest + 1)]


def _candidate(
    ask: Ask[AdaNetSettings], best: Trial | None, number: int, index: int, depths: tuple[int, ...]
) -> Suggestion:
    assert ask.architectures is not None
    start = ask.architectures.initial
    settings = Ensemble.model_validate(start.meta["ensemble"])
    topology = Topology.parse({"name": start.name, **ensemble_network(settings, depths)})
    return Suggestion(
        index,
        best.assignment if best else ask.space.draw(ask.rng(0)),
        parent=best.index if best else None,
        topology=topology.to_dict(),
        info={"round": number},
    )


def _depths(trial: Trial) -> tuple[int, ...]:
    assert trial.suggestion.topology is not None
    return tuple(trial.suggestion.topology["meta"]["depths"])  # type: ignore[index]


def _has_result(trial: Trial) -> bool:
    """Whether a trial reported a finite F; a trial that was stopped early, or that diverged, did not."""
    if trial.state is State.SUCCEEDED and OBJECTIVE not in trial.observations:
        need = "the trial function must train ensembles, as katib_flow.nas:train does"
        raise KatibFlowError(f"trial {trial.id}: {OBJECTIVE} was not reported; {need}")
    return trial.state.over and not trial.state.failure and isfinite(trial.observations.get(OBJECTIVE, nan))


def _value(trial: Trial) -> float:
    return trial.observations[OBJECTIVE]
