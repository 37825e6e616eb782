"""Platform-aware search: a controller learns which networks combine accuracy with low latency on the device.

Paper: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019: section 3 (the reward,
accuracy times (latency / target) to the power w, equations 2 and 3; w is -0.07 on both sides of the target, or 0 below
it and -1 above), section 4.1 (the factorised hierarchical space, here ``mobile``), section 4.2 (an LSTM that decides
token by token, proximal policy optimisation). The use of the controller is in ``policy``.
There are two objectives, so the report shows their front: the first is the accuracy, or another positive metric to
maximize; the second is the latency, which a trial measures (``latency: true`` of the standard trainer), or adds up from
a table of the latencies of operations on a device (``latency: table.json``).
Departs from it: a failed trial has reward 0; the controller and its learning rule are those of Zoph et al., 2018,
because the paper does not specify them, for hundreds of trials instead of 8,000; the target is optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import SpecError
from katib_flow.history import Suggestion
from katib_flow.nas.door import Later
from katib_flow.nas.policy import ProximalSettings, Results, TokenPolicy, needs_slots, proposed, proximal
from katib_flow.spec.experiment import Experiment

if TYPE_CHECKING:
    from katib_flow.nas import controller
else:
    controller = Later("katib_flow.nas.controller")

Exponent = Annotated[float, Field(le=0)]


class MnasNetSettings(ProximalSettings):
    """Settings of ``mnasnet``."""

    target: Annotated[float, Field(gt=0)] | None = None
    """T: target latency, in the unit of the second objective; by default, the median of the first batch."""
    below: Exponent = -0.07
    """alpha: exponent of latency / target if the target is met; 0, with ``above: -1``, makes it a hard limit."""
    above: Exponent = -0.07
    """beta: exponent if the target is not met. At -0.07, doubling the latency must gain 5 % accuracy to pay off."""


def _check(experiment: Experiment, settings: MnasNetSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "mobile")
    objectives = [f"{objective.direction} {objective.metric}" for objective in experiment.objective]
    if [objective.direction for objective in experiment.objective] != ["maximize", "minimize"]:
        yield SpecError(
            "objective", "; ".join(objectives), "two objectives: an accuracy to maximize, then a latency to minimize"
        )


def rewards(settings: MnasNetSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """The rewards of some trials, accuracy x (latency / target)^w (equation 2); 0 if it failed or has no latency."""
    accuracy, latency = -results[list(members), 0], results[list(members), 1]
    first = results[: settings.batch, 1]
    target = settings.target or (float(np.nanmedian(first)) if np.isfinite(first).any() else 1.0)
    share = latency / target
    exponent = np.where(share <= 1, settings.below, settings.above)
    with np.errstate(invalid="ignore", divide="ignore"):
        reward = accuracy * share**exponent
    return np.where((share > 0) & np.isfinite(reward), reward, 0.0).tolist()


@algorithm(
    "mnasnet",
    settings=MnasNetSettings,
    check=_check,
    several=True,
    learner=TokenPolicy(rewards, proximal, spread=0.1),
    extra="nas",
    strategy="generation",
    scope="network",
)
def mnasnet(ask: Ask[MnasNetSettings], taught: controller.Controller) -> list[Suggestion]:
    """The suggestions of the system; fewer than requested if the space is used up."""
    return proposed(ask, taught)
