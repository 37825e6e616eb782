"""A recurrent controller chooses architectures slot by slot, and learns from the results of its networks.

Paper: Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017: an LSTM of two layers of 35
units, REINFORCE with a moving mean of the rewards as baseline, many networks trained in parallel. The network is in
``controller``, its use in ``policy``. The space of the paper's convolutional networks (section 3.3) is close to
``macro``, where the anchors of skip connections are independent slots with two values; that of its recurrent cells
(section 3.4) is ``tree``, trained on text.
Departs from it: no trial waits for others, and no network is trained twice (``policy``). The learning rate of Adam is
0.02, not 6e-4 (5e-4 for cells), for hundreds of trials instead of 12,800. The depth does not grow during the search. By
default, the reward is not a power of the accuracy or c / perplexity^2 but a power of the share of trials that are not
better, so that any objective will do. A cell predicts characters, not words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.nas.door import Later
from katib_flow.nas.policy import PolicySettings, Results, TokenPolicy, needs_slots, proposed, shares
from katib_flow.spec.experiment import Experiment

if TYPE_CHECKING:
    from katib_flow.nas import controller
else:
    controller = Later("katib_flow.nas.controller")


SCALE = 80.0  # c in the reward c / perplexity^2


class NasRlSettings(PolicySettings):
    """Settings of ``nas-rl``."""

    paper: ClassVar = {"batch": 8, "lr": 6e-4, "reward": "accuracy"}
    batch: Annotated[int, Field(ge=1)] = 4
    lr: Annotated[float, Field(gt=0)] = 0.02
    units: Annotated[int, Field(ge=1, le=512)] = 35
    layers: Annotated[int, Field(ge=1, le=4)] = 2
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    entropy: Annotated[float, Field(ge=0)] = 0.0
    reward: Literal["rank", "accuracy", "perplexity"] = "rank"
    """rank: the share of trials that are not better, to the power of ``power``; accuracy: the objective to this power,
    as in the paper (section 4.1); perplexity: 80 / perplexity^2, as in the paper for cells (section 4.2)."""
    power: Annotated[float, Field(gt=0)] = 3.0
    """Exponent of the reward; the larger, the more only the best trials count."""


def rewards(settings: NasRlSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The rewards of some trials by ``settings.reward``; 0 for a failed trial."""
    mine = results[list(members), 0]
    if settings.reward == "rank":
        gained = shares(results, members) ** settings.power
    elif settings.reward == "accuracy":  # the loss is minus the accuracy
        gained = np.maximum(-mine, 0) ** settings.power
    else:
        gained = SCALE / np.maximum(mine, 1) ** 2  # a perplexity is at least 1
    return np.nan_to_num(gained).tolist()


def _check(experiment: Experiment, settings: NasRlSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "cell, macro or tree", architecture=False)
    wanted = {"accuracy": "maximize", "perplexity": "minimize"}.get(settings.reward)
    if wanted not in (None, direction := experiment.objective[0].direction):
        need = f"rank, or an objective to {wanted}; the direction of {experiment.objective[0].metric} is {direction}"
        yield SpecError("algorithm.settings.reward", settings.reward, need)


LEARNER = TokenPolicy(rewards, rule=lambda settings: controller.Reinforce(), spread=0.08)


@algorithm(
    "nas-rl",
    settings=NasRlSettings,
    check=_check,
    learner=LEARNER,
    extra="nas",
    strategy="generation",
    scope=("network", "cell"),
)
def nas_rl(ask: Ask[NasRlSettings], taught: controller.Controller) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    return proposed(ask, taught)
