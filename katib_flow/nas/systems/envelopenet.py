"""EnvelopeNet: repeatedly prune the branches whose features vary least, and grow each stage by a cell.

Paper: Kamath et al., "Neural Architecture Construction using EnvelopeNets", 2018, algorithm 1.
Reads: the feature statistics of the last network's truncated training, ``variance/<branch>``; never its accuracy.
Departs from it: skips between cells, if the space has them, all stay; the standard trainer reports the variance of a
branch's output before its last normalisation, because after it all variances are alike.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from katib_flow.algorithms.registry import Ask, algorithm
from katib_flow.errors import KatibFlowError, SpecError
from katib_flow.history import State, Suggestion, Trial
from katib_flow.models.spaces.envelope import Cells, Envelope, branch_key, envelope_network
from katib_flow.models.topology import Topology
from katib_flow.nas.settings import SystemSettings
from katib_flow.spaces import architectures
from katib_flow.spec.experiment import Experiment
from katib_flow.spec.model import Count
from katib_flow.spec.problems import NOTHING

if TYPE_CHECKING:
    from katib_flow.reports.blocks import Block

STATISTIC = "variance"


class EnvelopeNetSettings(SystemSettings):
    """Settings of ``envelopenet``."""

    iterations: Annotated[int, Field(ge=1, le=100)] = 5
    """Number of networks to construct after the first."""
    max_prune: Count = 3
    """Largest number of branches that a stage loses per iteration; never more than a third of its branches."""
    max_cells: Count = 6
    """Number of cells at which a stage stays as it is."""


def _check(experiment: Experiment, settings: EnvelopeNetSettings) -> Iterator[SpecError]:
    need = "the space envelope, because envelopenet grows networks of EnvelopeCells"
    if experiment.architecture is None:
        yield SpecError("architecture", NOTHING, need)
    elif (space := architectures(experiment)) is None or "cells" not in space.initial.meta:
        yield SpecError("architecture.space", experiment.architecture.space, need)


def draw(trial: Trial, network: Topology, after: Topology | None) -> "Iterator[Block]":
    """A chart of the feature statistics of the branches, which determined the next network."""
    from katib_flow.reports.blocks import Chart  # only reports need charts
    from katib_flow.reports.choice_charts import statistics

    cells: Cells = network.meta.get("cells", ())
    keys = [
        branch_key(stage, cell, op) for stage, inner in enumerate(cells) for cell, ops in enumerate(inner) for op in ops
    ]
    variances = _read(trial)
    values = {key: variances[key] for key in keys if key in variances}
    if values:
        gone = None if after is None else frozenset(values) - {edge.key for edge in after.flat.edges}
        caption = (
            "The variance of each branch's features; the branches that varied least were pruned for the next network."
        )
        figure = statistics(values, gone, "mean variance of features")
        yield Chart(figure, caption if gone is not None else "", 90 + 22 * len(values))


@algorithm(
    "envelopenet",
    settings=EnvelopeNetSettings,
    check=_check,
    ends=True,
    draw=draw,
    strategy="modification",
    scope="cell",
    budget=True,
)
def envelopenet(ask: Ask[EnvelopeNetSettings]) -> list[Suggestion]:
    """One network at a time, each made from the one before; with a budget, only the last network gets its maximum.

    A network whose trial failed is tried again.

    Raises:
        KatibFlowError: a trial did not report feature statistics.
    """
    if not ask.indices or ask.history.open():
        return []
    ended = [
        trial
        for trial in ask.history
        if trial.state is State.SUCCEEDED or (trial.state is State.EARLY_STOPPED and _read(trial))
    ]
    if len(ended) > ask.settings.iterations:
        return []
    assert ask.architectures is not None
    last = ended[-1] if ended else None
    if last and not _read(last):
        need = "the trial function must report feature statistics, as classify does with statistics: true"
        raise KatibFlowError(f"trial {last.id}: {STATISTIC}/<branch> was not reported; {need}")
    topology = constructed(last, ask.settings) if last else ask.architectures.initial
    budget = ask.experiment.budget
    final = len(ended) == ask.settings.iterations
    return [
        Suggestion(
            ask.indices[0],
            last.assignment if last else ask.space.draw(ask.rng(0)),
            budget=None if budget is None else budget.max if final else budget.min,
            parent=last.index if last else None,
            topology=topology.to_dict(),
            info={"construction": len(ended)},
        )
    ]


def constructed(trial: Trial, settings: EnvelopeNetSettings) -> Topology:
    """The network that follows that of a trial."""
    assert trial.suggestion.topology is not None
    before = Topology.parse(trial.suggestion.topology)
    envelope = Envelope.model_validate(before.meta["envelope"])
    cells = grown(before.meta["cells"], _read(trial), envelope.operations, settings)
    after = Topology.parse(envelope_network(envelope, cells))
    # weights are fresh, because the paper trains every network from scratch
    return after.model_copy(update={"weights": "fresh", "name": before.name})


def grown(
    cells: Cells, statistics: Mapping[str, float], operations: tuple[str, ...], settings: EnvelopeNetSettings
) -> list[list[list[str]]]:
    """Each stage without the branches of lowest statistic, and with one new cell at its end.

    Branches are pruned in ascending order of the statistic, ties by name, except the last branch of a cell.
    """
    after: list[list[list[str]]] = []
    for stage, inner in enumerate(cells):
        left = [list(branches) for branches in inner]
        if len(left) < settings.max_cells:
            branches = [(cell, op) for cell, ops in enumerate(left) for op in ops]
            wanted = min(settings.max_prune, len(branches) // 3)
            key = {pair: branch_key(stage, *pair) for pair in branches}
            for cell, op in sorted(branches, key=lambda pair: (statistics.get(key[pair], 0.0), key[pair])):
                if wanted and len(left[cell]) > 1:
                    left[cell].remove(op)
                    wanted -= 1
            left.append(list(operations))
        after.append(left)
    return after


def _read(trial: Trial) -> dict[str, float]:
    """The statistics that a trial reported, by branch."""
    prefix = f"{STATISTIC}/"
    return {name.removeprefix(prefix): value for name, value in trial.observations.items() if name.startswith(prefix)}
