"""EnvelopeNet: prune the branches whose features say least, and grow each stage by a cell, over and over.

Paper: Kamath et al., "Neural Architecture Construction using EnvelopeNets", 2018, algorithm 1.
Reads: the feature statistics of the last network's truncated training, ``variance/<branch>``; never its accuracy.
Departs from it: skips between cells, where the space has them, all stay; what the trainer that comes along reports is
the variance of what a branch gives before its last normalisation, because after it all vary alike.
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
    iterations: Annotated[int, Field(ge=1, le=100)] = 5
    """Networks to construct after the first."""
    max_prune: Count = 3
    """The most branches that a stage loses in an iteration; a third of those it has is never exceeded."""
    max_cells: Count = 6
    """Cells of a stage, after which it is left as it is."""


def _check(experiment: Experiment, settings: EnvelopeNetSettings) -> Iterator[SpecError]:
    need = "envelope: envelopenet grows networks of EnvelopeCells"
    if experiment.architecture is None:
        yield SpecError("architecture", NOTHING, need)
    elif (space := architectures(experiment)) is None or "cells" not in space.initial.meta:
        yield SpecError("architecture.space", experiment.architecture.space, need)


def draw(trial: Trial, network: Topology, after: Topology | None) -> "Iterator[Block]":
    """The feature statistics of the branches, by which the next network was made."""
    from katib_flow.reports.blocks import Chart  # charts are for reports; a step that suggests draws none
    from katib_flow.reports.choice_charts import statistics

    cells: Cells = network.meta.get("cells", ())
    keys = [
        branch_key(stage, cell, op) for stage, inner in enumerate(cells) for cell, ops in enumerate(inner) for op in ops
    ]
    found = _read(trial)
    values = {key: found[key] for key in keys if key in found}
    if values:
        gone = None if after is None else frozenset(values) - {edge.key for edge in after.flat.edges}
        said = "The variance of each branch's features; what varied least was pruned for the next network."
        figure = statistics(values, gone, "mean variance of features")
        yield Chart(figure, said if gone is not None else "", 90 + 22 * len(values))


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
    """One network at a time, each made of the one before; where there is a budget, the last gets the whole of it.

    A network whose trial failed is tried again.

    Raises:
        KatibFlowError: a trial reported no feature statistics.
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
        need = "the trial's function has to report feature statistics, as classify does with statistics: true"
        raise KatibFlowError(f"trial {last.id}: reported no {STATISTIC}/<branch>; {need}")
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
    """The network after the one that a trial trained."""
    assert trial.suggestion.topology is not None
    before = Topology.parse(trial.suggestion.topology)
    envelope = Envelope.model_validate(before.meta["envelope"])
    cells = grown(before.meta["cells"], _read(trial), envelope.operations, settings)
    after = Topology.parse(envelope_network(envelope, cells))
    return after.model_copy(update={"weights": "fresh", "name": before.name})  # the paper trains each from scratch


def grown(
    cells: Cells, statistics: Mapping[str, float], operations: tuple[str, ...], settings: EnvelopeNetSettings
) -> list[list[list[str]]]:
    """Each stage without its least branches, and with one whole cell more at its end.

    A branch goes in the order of its statistic, ties by name, unless it is the last of its cell.
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
    marks = f"{STATISTIC}/"
    return {name.removeprefix(marks): value for name, value in trial.observations.items() if name.startswith(marks)}
