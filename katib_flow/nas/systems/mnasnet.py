"""Platform-aware search: a controller learns which networks are accurate for the time that they take on the device.

Paper: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019: section 3 (the reward,
accuracy times (latency / target) to the power w, equations 2 and 3; w is -0.07 on both sides of the target, or 0 below
it and -1 above), section 4.1 (the factorised hierarchical space, here ``mobile``), section 4.2 (an LSTM that decides
token by token, proximal policy optimisation). ``policy`` says how the controller is asked and taught.
There are two objectives, so the report has the front of both: the first is the accuracy, or another figure that is
positive and the higher the better; the second the latency, which a trial measures (``latency: true`` of the trainer
that comes along), or sums from a table of what operations take on a device (``latency: table.json``).
Departs from it: a trial that failed has reward 0; the controller and its rule are those of Zoph et al., 2018, because
the paper gives none, and it learns for hundreds of trials, not 8,000; a target may be left out.
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
    target: Annotated[float, Field(gt=0)] | None = None
    """T: the latency to aim at, in the unit of the second objective; without it, the median of the first batch."""
    below: Exponent = -0.07
    """Exponent of latency / target where the target is met: alpha; 0 makes it a hard limit, with ``above: -1``."""
    above: Exponent = -0.07
    """The same where it is not met: beta. At -0.07, twice the latency is worth 5 % more accuracy."""


def _check(experiment: Experiment, settings: MnasNetSettings) -> Iterator[SpecError]:
    yield from needs_slots(experiment, "mobile")
    found = [f"{objective.direction} {objective.metric}" for objective in experiment.objective]
    if [objective.direction for objective in experiment.objective] != ["maximize", "minimize"]:
        yield SpecError("objective", "; ".join(found), "two: an accuracy to maximize, then a latency to minimize")


def rewards(settings: MnasNetSettings, results: Results, members: Sequence[int]) -> Sequence[float]:
    """Accuracy x (latency / target)^w of some trials (equation 2); 0 for one that failed or has no latency."""
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
    """Fewer than asked for where the space is used up."""
    return proposed(ask, taught)
